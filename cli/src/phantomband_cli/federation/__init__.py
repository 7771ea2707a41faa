"""Founding a network, and changing who certifies its views."""
