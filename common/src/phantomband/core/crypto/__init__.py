"""Every cryptographic primitive in use, all from the `cryptography` package, and the registry of labels.

Python cannot promise that a key is wiped from memory: keys are few and short-lived instead.
"""
