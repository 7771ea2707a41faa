"""PhantomBand directory: descriptors and certified views."""
