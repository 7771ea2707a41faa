"""Rates of prefixes: a clock that is set back does not shut anybody out."""

from __future__ import annotations

from phantomband.core.dht.limits import RateLimits
from phantomband.core.dht.parameters import Parameters

USUAL = Parameters()


def test_a_clock_that_was_set_back_shuts_nobody_out() -> None:
    limits = RateLimits(USUAL)
    assert limits.allows(b"p", 200_000.0)
    assert limits.allows(b"p", 0.0)
    for _ in range(int(USUAL.burst)):
        limits.allows(b"p", 0.0)
    assert not limits.allows(b"p", 0.0)
    assert limits.allows(b"p", 2 / USUAL.rate)
