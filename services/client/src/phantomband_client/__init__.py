"""PhantomBand client: SOCKS5 and HTTP CONNECT proxy, circuits, streams."""
