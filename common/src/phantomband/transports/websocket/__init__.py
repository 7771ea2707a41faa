"""`websocket`: link records in binary messages of a WebSocket over TLS, on the port of an ordinary web site."""
