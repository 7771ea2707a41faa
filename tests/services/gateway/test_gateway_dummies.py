"""A mixer's dummies fill a link that has nothing else to send, and never stand in the way of data."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from phantomband.core.cell import CELL_BYTES, LINK_CIRCUIT, Command, encode
from phantomband.core.circuit.batch import encode_run
from phantomband.core.ids import CircuitId, LinkId
from phantomband_gateway.service import GatewayService

PAD = encode(LINK_CIRCUIT, Command.PAD)
DATA = encode(CircuitId(bytes((0, 0, 0, 9))), Command.RELAY, b"data")


def sent(waiting: int, cells: bytes) -> bytes:
    """What a link with so many cells waiting is given of a frame from the mixer."""
    out: list[bytes] = []
    driver = SimpleNamespace(waiting=waiting, send=lambda cells: out.append(bytes(cells)))
    service: Any = SimpleNamespace(
        links=SimpleNamespace(by_id={LinkId(3): driver}), _out=0, _dropped=0, _each=lambda driver, work: work()
    )
    payload = b"".join(map(bytes, encode_run(LinkId(3), cells)))
    GatewayService.outgoing(service, memoryview(payload))
    assert service._out == len(cells) // CELL_BYTES
    return b"".join(out)


def test_dummies_go_out_on_an_idle_link() -> None:
    assert sent(0, DATA + PAD + DATA) == DATA + PAD + DATA


def test_dummies_are_dropped_where_cells_wait() -> None:
    assert sent(5, DATA + PAD + DATA) == DATA + DATA
    assert sent(5, PAD) == b""
