"""Solving: what a node runs to pay for its place. Apart from the services, since it needs numpy (decision 0017)."""
