"""The real voting machines (core/netdir/voting.py) in virtual time, with liars, losses and deaths."""
