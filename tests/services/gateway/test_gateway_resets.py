"""What the gateway tells the relay and its peers when the mixer's lane breaks, or the mixer drops circuits."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway_rig import Rig
from phantomband.core.cell import CELL_BYTES, Command, encode
from phantomband.core.ids import LinkId
from phantomband.core.link import Cells
from phantomband.runtime.frames import Frame, overflow
from phantomband.runtime.link_driver import DESTROY_ALL
from virtual import run_virtual


def test_peers_and_the_relay_are_told_at_once_and_what_waits_for_circuits_is_dropped(tmp_path: Path) -> None:
    async def main() -> None:
        rig = Rig(tmp_path)
        rig.connection.congest()
        rig.driver.send(encode(b"\0\0\0\1", Command.RELAY) * 100)
        rig.mixer.down()
        assert rig.lane.kinds == [Frame.LINK_UP, Frame.RESET]
        assert rig.driver.waiting == 1
        rig.connection.congest(False)
        rig.driver.writable()
        (cells,) = [e.data for e in rig.peer.receive(rig.connection.take()) if isinstance(e, Cells)]
        assert bytes(cells) == DESTROY_ALL
        rig.service.link_cells(rig.driver, bytes(CELL_BYTES))  # nothing goes to the relay while the mixer is away
        assert Frame.CELLS not in rig.lane.kinds
        assert rig.service.status()["cells_dropped"] == 1
        rig.driver.abort()
        await asyncio.sleep(0)

    run_virtual(main())


def test_the_relay_is_told_which_circuits_the_mixer_dropped(tmp_path: Path) -> None:
    async def main() -> None:
        rig = Rig(tmp_path)
        rig.lane.sent.clear()
        told = overflow(rig.link, b"\0\0\0\1")
        rig.mixer.frame(Frame.OVERFLOW, memoryview(bytearray(told)))
        rig.mixer.frame(Frame.OVERFLOW, memoryview(overflow(LinkId(rig.link + 1), b"\0\0\0\1")))
        assert rig.lane.sent == [(Frame.OVERFLOW, told)], "nothing of links that are gone"
        rig.driver.abort()
        await asyncio.sleep(0)

    run_virtual(main())
