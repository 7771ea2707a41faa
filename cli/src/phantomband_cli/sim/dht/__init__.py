"""Thousands of directories of the real machines (core/dht) in virtual time, with churn, liars and a Sybil flood."""
