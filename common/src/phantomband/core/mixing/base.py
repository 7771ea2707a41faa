"""What a mixing strategy is: cells in, cells out later, at times and in an order that tell little.

A strategy is a sans-io machine that the mixer service and the simulator run alike. Whatever it does, the order within a
circuit is kept. What is due is released before what has arrived: `release(now)` is asked first, `add` after it.

Memory is bounded: what a strategy cannot hold it drops, always all cells of a circuit, because one lost cell makes
all later ones of its circuit unreadable. Nothing leaves before its time, so nobody can flood a mixer to see what it
holds.
"""

from __future__ import annotations

from typing import Protocol

from phantomband.core.ids import LinkId

Batch = list[tuple[LinkId, list[bytes]]]
"""Cells of 2,048 bytes by link, in the order in which they are to be sent."""

Circuit = tuple[LinkId, bytes]
"""A circuit on a link, with its id of four bytes: the two directions of one circuit are two of these."""


class Strategy(Protocol):
    """One mixing strategy with its parameters."""

    passes: bool
    """True when cells are never held: the service then forwards whole batches unseen."""

    dropped_cells: int
    """Cells dropped at the bound so far."""

    @property
    def deadline(self) -> float | None:
        """When `release` must be called next, seconds; None while nothing is held."""

    @property
    def held(self) -> int:
        """Cells held."""

    def add(self, link: LinkId, cells: list[bytes], now: float) -> None:
        """Takes cells for a link, in their order."""

    def release(self, now: float) -> Batch:
        """What is due at `now`; everything when `now` is infinite."""

    def take_dropped(self) -> list[Circuit]:
        """Circuits dropped at the bound since the last call: each lost all its cells and must end."""

    def drop_link(self, link: LinkId) -> None:
        """Forgets what is held for a link, whose circuits are all dead."""
