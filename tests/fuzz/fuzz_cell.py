"""Any bytes given to what reads cells, batches, circuit commands or lane frames end in a value or Malformed;
any cells given to a relay leave it at work.

Run: `make fuzz TARGETS=cell`.
"""

from __future__ import annotations

import contextlib

from phantomband.core.cell import CELL_BYTES, HEADER_BYTES, LINK_CIRCUIT, Command, decode_untrusted, encode
from phantomband.core.circuit.batch import decode_untrusted as decode_batch
from phantomband.core.circuit.batch import encode_run
from phantomband.core.circuit.messages import (
    decode_create_untrusted,
    decode_extend_untrusted,
    encode_create,
    encode_extend,
)
from phantomband.core.circuit.relay import RelayMachine
from phantomband.core.circuit.relay_types import HandshakeJob
from phantomband.core.errors import Malformed
from phantomband.core.handshake.ntor import CLIENT_BYTES, CircuitKeys
from phantomband.core.ids import LinkId, NodeId
from phantomband.core.onion import OWN, Layer
from phantomband.core.stream.messages import Message
from phantomband.core.stream.messages import encode as message
from phantomband.runtime import frames
from phantomband.runtime.lane.framing import decode_frames_untrusted

SKIN = bytes(CLIENT_BYTES)
KEYS = CircuitKeys(b"f" * 32, b"b" * 32, b"e" * 32)
CIRCUIT = b"\0\0\0\1"
CREATE = encode(CIRCUIT, Command.CREATE, encode_create(1, SKIN))
SEEDS = [
    CREATE,
    encode(CIRCUIT, Command.CREATE, encode_create(8, SKIN)),
    encode(LINK_CIRCUIT, Command.DESTROY),
    encode(CIRCUIT, Command.RELAY, Layer(KEYS.forward).seal((OWN + message(Message.DROP, 0)).ljust(2027, b"\0"))),
    encode(CIRCUIT, Command.CREATED, bytes(1408)),
    encode_extend(NodeId(bytes(32)), SKIN),
    b"".join(encode_run(LinkId(1), CREATE)),
    b"\x0a\x03\1ab",
    frames.link_up(LinkId(1), True, bytes(32)),
]

DECODERS = (
    decode_untrusted,
    decode_batch,
    decode_create_untrusted,
    decode_extend_untrusted,
    frames.read_link_up,
    frames.read_link_down,
    frames.read_overflow,
    lambda data: list(decode_frames_untrusted(data)),
)


class Effects:
    """A relay's surroundings: handshakes are answered at once with the same keys, no other node is known."""

    machine: RelayMachine

    def wake(self) -> None: ...

    def handshake(self, job: HandshakeJob) -> None:
        self.machine.handshake_done(job, bytes(1408), KEYS)

    def open_link(self, node: NodeId) -> None:
        self.machine.link_ready(node, None)

    def slots_at(self, when: float) -> None: ...

    def close_link(self, link: LinkId) -> None: ...


def relay() -> RelayMachine:
    """A relay with one link and one circuit on it."""
    effects = Effects()
    machine = effects.machine = RelayMachine(effects, None)
    machine.link_up(LinkId(1), dialed=False)
    machine.cells(LinkId(1), CREATE, 0, 1, 0.0)
    return machine


def one_input(data: bytes) -> None:
    """Gives `data` to every decoder, and as cells (padded, and cut at each 40 bytes) to a relay."""
    for decode in DECODERS:
        with contextlib.suppress(Malformed):
            decode(data)
    machine = relay()
    heads = [data, *(CIRCUIT + data[i : i + 40] for i in range(0, min(len(data), 400), 40))]
    cells = b"".join(head[:CELL_BYTES].ljust(CELL_BYTES, b"\0") for head in heads)
    machine.cells(LinkId(1), cells, 0, len(cells) // CELL_BYTES, 1.0)
    machine.flush(1.0)
    for _, count, parts in machine.outbox.drain():
        if sum(map(len, parts)) != count * CELL_BYTES or len(parts[0]) != HEADER_BYTES:
            raise AssertionError("a relay sent something other than cells")
    machine.link_down(LinkId(1))
    if machine.circuit_count:
        raise AssertionError("a circuit outlived its link")
