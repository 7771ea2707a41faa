"""PhantomBand: the shared library of its services (pure core, transports, runtime)."""
