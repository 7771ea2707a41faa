"""Circuits at the client and at the relay, and the batches of cells between them."""
