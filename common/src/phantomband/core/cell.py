"""The cell: the only thing that links carry (PROTOCOL.md section 1).

    circuit id 4 | command 1 | body 2,043        = 2,048 bytes

Circuit id zero names the link itself: PAD keeps a link busy, DESTROY says that every circuit of the link is dead,
DIRECTORY carries requests between a client or node and the directory service behind the other end, SHAPE agrees on
how the ends pace what they send.
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
    SHAPE = 6


_KNOWN = frozenset(Command)
_ZERO_BODY = bytes(BODY_BYTES)
_RELAY, _PAD = int(Command.RELAY), int(Command.PAD)
_LINK_COMMANDS = frozenset(map(int, (Command.PAD, Command.DIRECTORY, Command.SHAPE)))
"""What circuit 0 carries for the link's ends themselves; DESTROY concerns the circuits' owners."""


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


def split(cells: bytes | bytearray) -> tuple[bytes | bytearray, list[tuple[int, bytes]]]:
    """(cells for the circuits' owner, the link's own as (command, body)) of whole cells; PAD cells are dropped.

    Costs little for cells that are all RELAY. A DIRECTORY, SHAPE or PAD that names a circuit is left to that circuit's
    owner, whom it does not befit: it destroys the circuit.
    """
    commands = cells[CIRCUIT_ID_BYTES::CELL_BYTES]
    if commands.count(_RELAY) == len(commands):
        return cells, []
    others, own, kept = bytearray(), [], 0
    for i, command in enumerate(commands):
        at = i * CELL_BYTES
        if command in _LINK_COMMANDS and cells[at : at + CIRCUIT_ID_BYTES] == LINK_CIRCUIT:
            if at > kept:
                others += cells[kept:at]
            kept = at + CELL_BYTES
            if command != _PAD:
                own.append((command, bytes(cells[at + HEADER_BYTES : kept])))
    return (others + cells[kept:], own) if kept else (cells, own)
