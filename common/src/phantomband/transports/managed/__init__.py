"""External programs that speak Tor's pluggable-transport protocol (pt-spec), run and used as transports."""
