"""What a gateway that pads tells of it, and that its relay never sees a padding cell."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from fakes import FakeConnection
from link_rig import CELL, LISTENER, NETWORK, NODE
from phantomband.core.link import Cells, dial
from phantomband.core.shaping import Mode, Policy, Schedule, Shape
from phantomband.runtime.frames import Frame
from phantomband.runtime.lane.base import Driver, LanePeer
from phantomband.runtime.link_driver import PAD
from phantomband_gateway.service import GatewayParts, GatewayService
from virtual import run_virtual
from world import Seeded

CONSTANT = Shape(Mode.CONSTANT, Schedule.FIXED, 128)


class FakeLane:
    """The lane to the relay."""

    up = True
    buffered = 0

    def __init__(self) -> None:
        self.cells = b""

    def send(self, kind: int, parts: Sequence[bytes | bytearray | memoryview]) -> bool:
        if kind == Frame.CELLS:
            self.cells += b"".join(parts)
        return True


def test_padding_is_counted_apart_and_stays_on_the_link(tmp_path: Path) -> None:
    async def main() -> None:
        parts = GatewayParts(
            tmp_path, "unix:x", "unix:x", Driver.UNIX, NETWORK, NODE, LISTENER, {}, (), (), 4, 4, Seeded(1),
            Policy(CONSTANT),
        )  # fmt: skip
        service, lane, connection = GatewayService(parts), FakeLane(), FakeConnection()
        service._relay = lane  # type: ignore[assignment]
        service._accept_lane(LanePeer("mixer", 1))
        receiver = service.links.accept(connection)
        peer = dial(NETWORK, NODE, LISTENER.public, None, Seeded(2))
        receiver.received(peer.start())
        list(peer.receive(connection.take()))
        (driver,) = service.links.by_id.values()
        driver.send(CELL * 3)
        receiver.received(peer.seal(PAD * 7 + CELL + PAD * 7))
        assert lane.cells.endswith(CELL)
        assert PAD not in lane.cells
        await asyncio.sleep(2.5 / 32)
        sent = b"".join(bytes(e.data) for e in peer.receive(connection.take()) if isinstance(e, Cells))
        assert sent == CELL * 3 + PAD * 5
        wanted = {"links_paced": 1, "cells_padding": 5, "cells_in": 1, "cells_waiting": 0}
        assert wanted.items() <= service.status().items()
        driver.abort()
        driver.closed(None)
        assert {"links_paced": 0, "cells_padding": 5}.items() <= service.status().items()

    run_virtual(main())
