"""PhantomBand gateway: transports and links."""
