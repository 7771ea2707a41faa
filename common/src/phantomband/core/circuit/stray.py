"""Cells for circuits that a link does not have: which are to be expected, and which are a flood.

When a circuit ends, what its neighbour had sent before it knew still comes: from a slow link for half a minute, from a
fast one thousands of cells. Neither end of the link has done anything wrong, and who ends circuits with data under way
may be a client or a server far off. So each circuit that ends makes so many cells expected, and only those beyond are
counted, for a minute at most: **no third party can make honest relays close the link that they share**.

Only a neighbour that sends cells of circuits that never were reaches the bound.
"""

from __future__ import annotations

EXPECTED_A_CIRCUIT = 16_384
"""Cells that may still come of a circuit that has ended: what waits of one circuit in a peer's mixer and in its link's
queue (4,096 each), and as much again in its lanes and in the network."""

EXPECTED_AT_FIRST = 8 * EXPECTED_A_CIRCUIT
"""... of the circuits of before, when a link is new to us: we may have been started again."""

FORGET_SECONDS = 60.0
"""Counts of a minute; a link that takes no byte for 30 s is closed, so older cells are not under way any more."""


class Stray:
    """The cells of one link that belonged to no circuit."""

    __slots__ = ("_began", "_expected", "_expected_before", "unexpected")

    def __init__(self) -> None:
        self._expected, self._expected_before = EXPECTED_AT_FIRST, 0
        self._began = float("-inf")
        self.unexpected = 0
        """Cells beyond what was to be expected, of the last minute."""

    def ended(self) -> None:
        """A circuit of the link has ended."""
        self._expected += EXPECTED_A_CIRCUIT

    def came(self, count: int, now: float) -> int:
        """So many cells came. Returns: `unexpected`."""
        if now - self._began >= FORGET_SECONDS:
            first = self._began == float("-inf")
            self._began = now
            self.unexpected = 0
            if not first:  # what ended in the minute before is expected for one more
                self._expected, self._expected_before = 0, self._expected
        old = min(count, self._expected_before)
        new = min(count - old, self._expected)
        self._expected_before -= old
        self._expected -= new
        self.unexpected += count - old - new
        return self.unexpected
