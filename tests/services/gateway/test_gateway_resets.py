"""What the gateway does when the mixer's lane to it breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from fakes import FakeConnection
from link_rig import LISTENER, NETWORK, NODE
from phantomband.core.cell import CELL_BYTES, Command, encode
from phantomband.core.link import Cells, dial
from phantomband.runtime.frames import Frame
from phantomband.runtime.lane.base import Driver, LanePeer
from phantomband.runtime.link_driver import DESTROY_ALL
from phantomband_gateway.service import GatewayParts, GatewayService
from virtual import run_virtual
from world import Seeded


class FakeLane:
    """The lane to the relay."""

    up = True
    buffered = 0

    def __init__(self) -> None:
        self.sent: list[int] = []

    def send(self, kind: int, parts: Sequence[bytes | bytearray | memoryview]) -> bool:
        self.sent.append(kind)
        return True


def test_peers_and_the_relay_are_told_at_once_and_what_waits_for_circuits_is_dropped(tmp_path: Path) -> None:
    async def main() -> None:
        parts = GatewayParts(
            tmp_path, "unix:x", "unix:x", Driver.UNIX, NETWORK, NODE, LISTENER, {}, (), (), 4, 4, Seeded(1)
        )
        service, lane, connection = GatewayService(parts), FakeLane(), FakeConnection()
        service._relay = lane  # type: ignore[assignment]
        mixer = service._accept_lane(LanePeer("mixer", 1))
        receiver = service.links.accept(connection)
        peer = dial(NETWORK, NODE, LISTENER.public, None, Seeded(2))
        receiver.received(peer.start())
        list(peer.receive(connection.take()))
        (driver,) = service.links.by_id.values()
        connection.congest()
        driver.send(encode(b"\0\0\0\1", Command.RELAY) * 100)
        mixer.down()
        assert lane.sent == [Frame.LINK_UP, Frame.RESET]
        assert driver.waiting == 1
        connection.congest(False)
        driver.writable()
        (cells,) = [e.data for e in peer.receive(connection.take()) if isinstance(e, Cells)]
        assert bytes(cells) == DESTROY_ALL
        service.link_cells(driver, bytes(CELL_BYTES))  # nothing goes to the relay while the mixer is away
        assert Frame.CELLS not in lane.sent
        assert service.status()["cells_dropped"] == 1
        driver.abort()
        await asyncio.sleep(0)

    run_virtual(main())
