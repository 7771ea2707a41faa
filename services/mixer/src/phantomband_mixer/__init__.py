"""PhantomBand mixer: batching, shuffling, delays."""
