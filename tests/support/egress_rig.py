"""A link's queue whose cells can be read on a fake connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from fakes import FakeConnection
from phantomband.core.cell import CELL_BYTES, Command, encode
from phantomband.core.shaping import Mode, Schedule, Shape, make_pacer
from phantomband.runtime.paced_egress import PAD, Fill, PacedEgress, no_fill
from virtual import run_virtual
from world import Seeded

CONSTANT = Shape(Mode.CONSTANT, Schedule.FIXED, 128)
"""Four cells a slot, 32 slots a second."""
ADAPTIVE = Shape(Mode.ADAPTIVE, Schedule.FIXED, 512)
SLOT = 1 / 32


class PlainLink:
    """Seals nothing, so that tests see the cells."""

    def seal(self, cells: bytes | bytearray | memoryview) -> bytearray:
        return bytearray(cells)


class TimedConnection(FakeConnection):
    """Notes when it was written to."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        super().write(data)
        self.times.append(asyncio.get_running_loop().time())


def cell(circuit: int, number: int) -> bytes:
    return encode(circuit.to_bytes(4, "big"), Command.RELAY, number.to_bytes(4, "big"))


def cells(circuit: int, count: int, first: int = 0) -> bytes:
    return b"".join(cell(circuit, first + i) for i in range(count))


def names(data: bytes) -> list[tuple[int, int] | str]:
    """(circuit, number) of each cell, PAD of a padding cell."""
    each = [data[i : i + CELL_BYTES] for i in range(0, len(data), CELL_BYTES)]
    return ["PAD" if c == PAD else (int.from_bytes(c[:4], "big"), int.from_bytes(c[5:9], "big")) for c in each]


class Rig:
    def __init__(self, shape: Shape = CONSTANT, fill: Fill = no_fill) -> None:
        self.connection = TimedConnection()
        self.given_up: list[bytes] = []
        now = asyncio.get_running_loop().time()
        pacer = make_pacer(shape, now, Seeded(1))
        assert pacer is not None
        self.egress = PacedEgress(PlainLink(), self.connection, self.given_up.append, pacer, fill)  # type: ignore[arg-type]

    @property
    def slots(self) -> list[list[tuple[int, int] | str]]:
        return [names(data) for data in self.connection.written]


def run(test: Callable[[Rig], Coroutine[Any, Any, None]], *, shape: Shape = CONSTANT, fill: Fill = no_fill) -> None:
    async def main() -> None:
        rig = Rig(shape, fill)
        await test(rig)
        rig.egress.stop()

    run_virtual(main())
