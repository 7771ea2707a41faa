"""`quic`: link records inside one stream of a QUIC connection, to pass as HTTP/3."""
