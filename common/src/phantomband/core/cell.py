"""The cell: the only thing that links carry (PROTOCOL.md section 1).

    circuit id 4 | command 1 | body 2,043        = 2,048 bytes

Circuit id zero names the link itself: PAD keeps a link busy, DESTROY says that every circuit of the link is dead,
DIRECTORY carries requests between a client or node and the directory service behind the other end.
Every other length of the protocol is derived here; nothing else writes 2048.
"""

from __future__ import annotations

from enum import IntEnum

from phantomband.core.errors import Malformed
from phantomband.core.ids import CircuitId

CELL_BYTES = 2048
"""Size of every cell. One hybrid handshake message fits (DESIGN.md section 4)."""

CIRCUIT_ID_BYTES = 4
HEADER_BYTES = CIRCUIT_ID_BYTES + 1
BODY_BYTES = CELL_BYTES - HEADER_BYTES

LINK_CIRCUIT = CircuitId(b"\0\0\0\0")
"""The circuit id that names the link itself."""


class Command(IntEnum):
    """What a cell is for."""

    PAD = 0
    CREATE = 1
    CREATED = 2
    RELAY = 3
    DESTROY = 4
    DIRECTORY = 5


_KNOWN = frozenset(Command)
_ZERO_BODY = bytes(BODY_BYTES)


def encode(circuit: bytes, command: Command, body: bytes = b"") -> bytes:
    """One cell of 2,048 bytes; `body` is padded with zeros to 2,043.

    Raises:
        ValueError: `body` is over 2,043 bytes.
    """
    if len(body) > BODY_BYTES:
        raise ValueError(f"a cell body has at most {BODY_BYTES} bytes, not {len(body)}")
    return circuit + bytes((command,)) + body + _ZERO_BODY[len(body) :]


def decode_untrusted(cell: bytes) -> tuple[CircuitId, Command, bytes]:
    """(circuit id, command, body of 2,043 bytes) of one cell.

    Raises:
        Malformed: not 2,048 bytes, or an unknown command.
    """
    if len(cell) != CELL_BYTES:
        raise Malformed(f"a cell has {CELL_BYTES} bytes, not {len(cell)}")
    command = cell[CIRCUIT_ID_BYTES]
    if command not in _KNOWN:
        raise Malformed(f"unknown cell command {command}")
    return CircuitId(cell[:CIRCUIT_ID_BYTES]), Command(command), cell[HEADER_BYTES:]
