"""How a current browser looks on the wire: TLS, HTTP headers, HTTP/2 settings."""
