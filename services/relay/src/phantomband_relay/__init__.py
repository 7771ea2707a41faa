"""PhantomBand relay: circuits, onion layers, exit."""
