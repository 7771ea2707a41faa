"""Directories with full sets that reconcile them (core/dht/reconcile.py) at random meetings, in virtual time."""
