"""What a gateway pads for dialers that ask, in all: each asks for itself, but the node's uplink is one.

A dialer's SHAPE makes us send at a rate whether or not there is anything to carry. One link is bounded by
`gateway.padding_max_rate`; all together by `gateway.padding_total`, shared by where they come from
(core/circuit/rate_shares.py). What there is no room for is answered with what links have anyway, and a client whose
profile wants more goes to another guard.
"""

from __future__ import annotations

from collections.abc import Hashable

from phantomband.core.circuit.rate_shares import RateShares
from phantomband.core.shaping import Mode, Shape
from phantomband.runtime.link_driver import LinkDriver

ADAPTIVE_SHARE = 16
"""An adaptive link counts for a sixteenth of its highest rate: it pads at most four times what it carries, for half a
minute after, and its lowest rung when it carries nothing."""


class Paddings:
    """Who has how much of `total` cells a second."""

    def __init__(self, total: int) -> None:
        self._shares = RateShares(total)

    @property
    def rate(self) -> int:
        """Cells a second that were given."""
        return self._shares.given

    def take(self, link: LinkDriver, shape: Shape, own: Shape) -> bool:
        """Whether there is room for `shape`; what a link has anyway is not counted."""
        if shape == own or shape.mode is Mode.OFF:
            self._shares.give_back(link)
            return True
        rate = shape.rate if shape.mode is Mode.CONSTANT else -(-shape.rate // ADAPTIVE_SHARE)
        source: Hashable = link.source or link
        return self._shares.take(link, source, rate)

    def give_back(self, link: LinkDriver) -> None:
        self._shares.give_back(link)
