"""Lanes: the one interface that carries batches of cells between the services of a node."""
