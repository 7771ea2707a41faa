"""`phantomband demo`: a network, a web server, real fetches through three hops, and what they measured."""
