"""A whole network on one machine: each service a process of its own, forked from one warm supervisor."""
