"""What a batch of cells turns into: cells for links, kept in pieces and joined once.

Each cell is appended as header 5 | sealed body | zero padding. Order within a link is the order of appending, so the
order within a circuit is kept whatever the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from phantomband.core.cell import BODY_BYTES
from phantomband.core.ids import LinkId
from phantomband.core.onion import LAYER_BYTES, MAX_HOPS

PADDING = tuple(bytes(LAYER_BYTES * i) for i in range(MAX_HOPS + 1))
"""PADDING[i]: the zeros behind P(i + 1) bytes in a body."""

ZERO_BODY = bytes(BODY_BYTES)


def padded(marked: list[bytes], size: int) -> list[bytes]:
    """Messages behind their marks, filled with zeros to `size` bytes each."""
    return [m if len(m) == size else m + ZERO_BODY[: size - len(m)] for m in marked]


class OutLink:
    """The cells that wait for one link."""

    __slots__ = ("_dirty", "_wake", "cells", "link", "parts")

    def __init__(self, link: LinkId, dirty: list[OutLink], wake: Callable[[], None]) -> None:
        self.link = link
        self.parts: list[bytes] = []
        self.cells = 0
        self._dirty = dirty
        self._wake = wake

    def add(self, header: bytes, body: bytes, padding: bytes) -> None:
        """One cell in its three pieces, 2,048 bytes together."""
        if not self.cells:
            if not self._dirty:
                self._wake()
            self._dirty.append(self)
        self.cells += 1
        self.parts += (header, body, padding)

    def add_all(self, header: bytes, bodies: list[bytes], padding: bytes) -> None:
        """Cells that differ in their sealed body only."""
        if not self.cells:
            if not self._dirty:
                self._wake()
            self._dirty.append(self)
        self.cells += len(bodies)
        parts = self.parts
        for body in bodies:
            parts += (header, body, padding)


class Outbox:
    """The cells that wait for all links of a service."""

    __slots__ = ("_dirty", "_wake")

    def __init__(self, wake: Callable[[], None]) -> None:
        """Args: wake: called when the first cell comes in after a `drain`."""
        self._dirty: list[OutLink] = []
        self._wake = wake

    def link(self, link: LinkId) -> OutLink:
        """A new queue; the caller keeps it as long as the link lives."""
        return OutLink(link, self._dirty, self._wake)

    @property
    def empty(self) -> bool:
        return not self._dirty

    @property
    def cells(self) -> int:
        """All that wait."""
        return sum(out.cells for out in self._dirty)

    def drain(self) -> Iterator[tuple[LinkId, int, list[bytes]]]:
        """(link, number of cells, their pieces) of each link that has some; they are then no longer here."""
        dirty, self._dirty[:] = list(self._dirty), []
        for out in dirty:
            parts, cells = out.parts, out.cells
            out.parts, out.cells = [], 0
            yield out.link, cells, parts
