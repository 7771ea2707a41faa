"""Randomness as an argument: the core never asks the system for any, so that every vector can be replayed."""

from __future__ import annotations

from collections.abc import Callable

RandomSource = Callable[[int], bytes]
"""`random(n)` gives n unpredictable bytes: `os.urandom`, brought in by `__main__`; a fixed one in tests."""
