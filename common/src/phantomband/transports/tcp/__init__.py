"""`tcp`: link records over plain TCP, as public relays talk to each other."""
