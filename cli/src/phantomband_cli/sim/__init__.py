"""The simulator: the core's real machines on a virtual clock, what a watcher of links sees, and how well that links."""
