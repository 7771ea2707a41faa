"""Choosing among transports: in what order, how many at a time, and what worked before on this network."""
