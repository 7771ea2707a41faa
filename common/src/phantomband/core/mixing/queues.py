"""Cells by circuit, and whose are dropped when there are too many.

Two bounds: `max_cells` for the mixer, and 4,096 for a circuit. A circuit over its own bound is dropped. At the mixer's
bound the circuits with the **longest queues** are dropped, until an eighth of the room is free; among equals chance
decides. So one circuit's flood ends that circuit and not its neighbours, as long as it has fewer circuits than there is
room for. A dropped circuit loses all its cells: with one cell missing the others could not be read (rule 2 of
docs/explanation/life-of-a-cell.md; oldest queue first in Tor proposal 324, 4.1.3, here the longest).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sized
from itertools import groupby
from operator import itemgetter
from typing import Generic, TypeVar

from phantomband.core.cell import CIRCUIT_ID_BYTES
from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.ids import LinkId
from phantomband.core.mixing.base import Batch, Circuit
from phantomband.core.mixing.shuffle import Draw

T = TypeVar("T")

MAX_CIRCUIT_CELLS = 4096
"""Cells of one circuit in one mixer: twice the largest congestion window, as in a link's queue (runtime/egress.py)."""

ROOM_SHARE = 8
"""One part in so many of the room is made free at the bound, so that not each cell of a flood searches."""

_circuit_id = itemgetter(slice(0, CIRCUIT_ID_BYTES))


def runs(link: LinkId, cells: Iterable[bytes]) -> Iterator[tuple[Circuit, list[bytes]]]:
    """The cells of a link, those of one circuit that stand together as one piece."""
    for circuit, run in groupby(cells, _circuit_id):
        yield (link, circuit), list(run)


def by_link(cells: Iterable[tuple[Circuit, bytes]]) -> Batch:
    """The cells as a batch, in the order given."""
    links: dict[LinkId, list[bytes]] = {}
    for (link, _), cell in cells:
        links.setdefault(link, []).append(cell)
    return list(links.items())


def excess(held: int, max_cells: int) -> int:
    """How many cells are dropped when more than `max_cells` are held."""
    return held - max_cells + max_cells // ROOM_SHARE


def longest(queues: Mapping[Circuit, Sized], spare: int, draw: Draw) -> list[Circuit]:
    """Circuits whose queues together have at least `spare` cells: the longest, and among equals any.

    Args:
        spare: cells, at most those that there are.
    """
    by_length: dict[int, list[Circuit]] = {}
    for circuit, queue in queues.items():
        by_length.setdefault(len(queue), []).append(circuit)
    out: list[Circuit] = []
    for length in sorted(by_length, reverse=True):
        circuits = by_length[length]
        wanted = min(-(-spare // length), len(circuits))
        for i in range(wanted if wanted < len(circuits) else 0):
            j = i + draw.below(len(circuits) - i)
            circuits[i], circuits[j] = circuits[j], circuits[i]
        out += circuits[:wanted]
        spare -= wanted * length
        if spare <= 0:
            break
    return out


class QueuedMixing(ABC, Generic[T]):
    """A strategy that holds a list for each circuit, with both bounds."""

    passes = False

    def __init__(self, max_cells: int, random: RandomSource) -> None:
        self._max_cells = max_cells
        self._draw = Draw(random)
        self._queues: dict[Circuit, list[T]] = {}
        """What waits of each circuit, the oldest first. At most 4,096: taking the first of a list is cheap enough."""
        self._dropped: dict[Circuit, None] = {}
        self.held = 0
        self.dropped_cells = 0

    @abstractmethod
    def _removed(self, queues: list[list[T]]) -> None:
        """These queues were taken out: forgets what else is kept of their cells."""

    def take_dropped(self) -> list[Circuit]:
        out, self._dropped = self._dropped, {}
        return list(out)

    def drop_link(self, link: LinkId) -> None:
        self._remove([circuit for circuit in self._queues if circuit[0] == link])

    def _runs(self, link: LinkId, cells: list[bytes]) -> Iterator[tuple[Circuit, list[bytes]]]:
        """The cells by runs, without those of circuits that were just dropped."""
        for circuit, run in runs(link, cells):
            if circuit in self._dropped:
                self.dropped_cells += len(run)
            else:
                yield circuit, run

    def _bound(self, circuit: Circuit) -> None:
        """Drops what is too much, now that cells of `circuit` were added."""
        if len(self._queues[circuit]) > MAX_CIRCUIT_CELLS:
            self._drop([circuit])
        if self.held > self._max_cells:
            self._drop(longest(self._queues, excess(self.held, self._max_cells), self._draw))

    def _drop(self, circuits: list[Circuit]) -> None:
        before = self.held
        self._remove(circuits)
        self.dropped_cells += before - self.held
        self._dropped.update(dict.fromkeys(circuits))

    def _remove(self, circuits: list[Circuit]) -> None:
        queues = [self._queues.pop(circuit) for circuit in circuits]
        self.held -= sum(map(len, queues))
        self._removed(queues)
