"""A mixer service between two fake lanes, on a virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from phantomband.core.cell import CELL_BYTES, Command, encode
from phantomband.core.circuit.batch import decode_untrusted, encode_run
from phantomband.core.ids import LinkId
from phantomband.runtime.frames import Frame, read_overflow
from phantomband.runtime.lane.base import Driver, LanePeer
from phantomband.runtime.settings import MixerSection
from phantomband_mixer.output import Output
from phantomband_mixer.service import MixerService, strategy
from virtual import run_virtual
from world import Seeded

RELAY = LanePeer("relay", 1)
Run = Callable[..., None]
"""Runs a test with a rig whose mixer has these settings."""


class FakeLane:
    """The lane to the gateway."""

    def __init__(self) -> None:
        self.up = True
        self.buffered = 0
        self.frames: list[tuple[float, bytes]] = []
        self.overflows: list[tuple[int, bytes]] = []

    def send(self, kind: int, parts: Sequence[bytes | bytearray | memoryview]) -> bool:
        if self.up and kind == Frame.OVERFLOW:
            self.overflows.append(read_overflow(b"".join(parts)))
        elif self.up:
            assert kind == Frame.CELLS
            self.frames.append((asyncio.get_running_loop().time(), b"".join(parts)))
        return self.up

    @property
    def cells(self) -> list[tuple[int, bytes]]:
        return [
            (link, data[at + i * CELL_BYTES :][:CELL_BYTES])
            for _, data in self.frames
            for link, at, count in decode_untrusted(data)
            for i in range(count)
        ]


class Rig:
    def __init__(self, path: Path, section: MixerSection) -> None:
        mixing = strategy(section, Seeded(1))
        self.service = MixerService(path, "unix:nowhere", Driver.UNIX, mixing, Seeded(2))
        self.lane = FakeLane()
        self.service._gateway = self.lane  # type: ignore[assignment]
        self.service._output = Output(self.lane, section.max_cells * 3 // 2)
        self.receiver = self.service._accept(RELAY)

    def send(self, link: int, circuit: int, *numbers: int) -> None:
        self.send_cells(link, *(cell(circuit, n) for n in numbers))

    def send_cells(self, link: int, *cells: bytes) -> None:
        self.receiver.frame(Frame.CELLS, memoryview(b"".join(encode_run(LinkId(link), b"".join(cells)))))


def cell(circuit: int, number: int, command: Command = Command.RELAY) -> bytes:
    return encode(circuit.to_bytes(4, "big"), command, number.to_bytes(4, "big"))


def runner(path: Path) -> Run:
    def run(test: Callable[[Rig], Coroutine[Any, Any, None]], **section: Any) -> None:
        async def main() -> None:
            await test(Rig(path, MixerSection(**section)))

        run_virtual(main())

    return run
