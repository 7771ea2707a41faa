"""The payload of a CELLS frame on a lane: which links, how many cells each, then the cells.

runs 2 | (link 4 | cells 4) x runs | cells, 2,048 bytes each
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from phantomband.core.cell import CELL_BYTES
from phantomband.core.errors import Malformed
from phantomband.core.ids import LinkId

_RUN = struct.Struct(">II")
MAX_CELLS = 256
"""Cells of one frame: 512 KiB. A longer run is cut."""


def decode_untrusted(payload: bytes | memoryview) -> list[tuple[LinkId, int, int]]:
    """(link, offset of its first cell in `payload`, number of cells) of each run.

    Raises:
        Malformed: the index and the cells do not agree.
    """
    if len(payload) < 2:
        raise Malformed("a batch ends inside its index")
    count = int.from_bytes(payload[:2], "big")
    at = 2 + _RUN.size * count
    if len(payload) < at:
        raise Malformed("a batch ends inside its index")
    runs = []
    for link, cells in _RUN.iter_unpack(payload[2:at]):
        runs.append((LinkId(link), at, cells))
        at += cells * CELL_BYTES
    if at != len(payload):
        raise Malformed("a batch's index and its cells do not agree")
    return runs


def encode_run(link: LinkId, cells: bytes | bytearray | memoryview) -> list[bytes | bytearray | memoryview]:
    """One frame for whole cells of one link, at most 256, in one buffer."""
    return [b"\0\1", _RUN.pack(link, len(cells) // CELL_BYTES), cells]


def encode(runs: Iterable[tuple[LinkId, int, list[bytes]]]) -> Iterable[list[bytes]]:
    """Frames, each a list of buffers to be sent one behind the other; at most 256 cells a frame.

    Args: runs: (link, number of cells, their pieces: three for each cell).
    """
    index: list[bytes] = []
    parts: list[bytes] = []
    room = MAX_CELLS
    for link, cells, pieces in runs:
        start = 0
        while cells:
            take = min(cells, room)
            index.append(_RUN.pack(link, take))
            parts += pieces[start : start + 3 * take]
            start += 3 * take
            cells -= take
            room -= take
            if not room:
                yield [len(index).to_bytes(2, "big"), *index, *parts]
                index, parts, room = [], [], MAX_CELLS
    if index:
        yield [len(index).to_bytes(2, "big"), *index, *parts]
