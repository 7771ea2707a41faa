"""TLS over a connection, at either end: what `tls`, `websocket`, `doh` and the web site on their ports stand on."""
