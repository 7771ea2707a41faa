"""The vectorised simulator: counts of cells instead of cells, in steps of time, for networks of thousands."""
