"""`tls`: link records inside TLS, to pass where only TLS passes."""
