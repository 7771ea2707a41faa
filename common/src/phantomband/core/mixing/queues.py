"""What the strategies share: cells by circuit, and who gives up cells when the mixer is full.

At the bound nothing is dropped, because one lost cell makes all later ones of its circuit unreadable. Instead cells
leave early, and unmixed as they then are, the **longest queues** pay: one circuit's flood takes its own protection
away, and not its neighbours', as long as it has fewer circuits than there is room for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sized

from phantomband.core.ids import LinkId
from phantomband.core.mixing.base import Batch
from phantomband.core.mixing.shuffle import Draw, shuffle

CIRCUIT_BYTES = 4
"""A cell begins with its circuit's id."""

Circuit = tuple[LinkId, bytes]
"""A circuit on a link: the two directions of one circuit are two of these."""

ROOM_SHARE = 8
"""One part in so many of the room is made free at the bound, so that not each cell of a flood searches."""


def by_link(cells: Iterable[tuple[Circuit, bytes]]) -> Batch:
    """The cells as a batch, in the order given."""
    links: dict[LinkId, list[bytes]] = {}
    for (link, _), cell in cells:
        links.setdefault(link, []).append(cell)
    return list(links.items())


def excess(held: int, max_cells: int) -> int:
    """How many cells leave early; 0 while fewer than `max_cells` are held."""
    return 0 if held < max_cells else held - max_cells + max(1, max_cells // ROOM_SHARE)


def longest(queues: Mapping[Circuit, Sized], spare: int, draw: Draw) -> dict[Circuit, int]:
    """How many cells each circuit gives up so that `spare` leave: queues are cut to one length, chance does the rest.

    Args:
        spare: cells, at most those that there are.
    """
    level = _level(sorted(map(len, queues.values()), reverse=True), spare)
    cuts = {circuit: len(queue) - level for circuit, queue in queues.items() if len(queue) > level}
    over = list(cuts)
    shuffle(over, draw)
    for circuit in over[: sum(cuts.values()) - spare]:
        cuts[circuit] -= 1
    return {circuit: cut for circuit, cut in cuts.items() if cut}


def _level(lengths: list[int], spare: int) -> int:
    """The greatest length that frees `spare` cells when all longer queues are cut to it; `lengths` falls."""
    total = 0
    for count, length in enumerate(lengths, 1):
        total += length
        below = lengths[count] if count < len(lengths) else 0
        if total - count * below >= spare:
            return (total - spare) // count
    return 0
