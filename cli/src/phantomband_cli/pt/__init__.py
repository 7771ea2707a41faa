"""`phantomband pt`: our transports as a managed proxy of pt-spec, for Tor and whoever else starts such programs."""
