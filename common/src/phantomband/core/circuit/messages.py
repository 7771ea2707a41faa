"""CREATE, EXTEND and their answers (PROTOCOL.md section 2).

CREATE body   hop 1 | handshake type 1 | length 2 | onion skin 1,568
CREATED body  reply 1,408
EXTEND        node id 32 | handshake type 1 | length 2 | onion skin 1,568      = 1,603
EXTENDED      reply 1,408
"""

from __future__ import annotations

from phantomband.core.errors import Malformed
from phantomband.core.handshake.ntor import CLIENT_BYTES
from phantomband.core.ids import NODE_ID_BYTES, NodeId
from phantomband.core.onion import MAX_HOPS
from phantomband.core.wire import Reader, lv16, u8

HANDSHAKE_NTOR3_MLKEM768 = 1
"""The only handshake type; its name is in PROTOID, so there is nothing to downgrade to."""


def encode_create(hop: int, onion_skin: bytes) -> bytes:
    """The body of CREATE, without its padding. `hop` is set by the extender to its own + 1."""
    return u8(hop) + u8(HANDSHAKE_NTOR3_MLKEM768) + lv16(onion_skin)


def decode_create_untrusted(body: bytes) -> tuple[int, bytes]:
    """(hop, onion skin) of a CREATE.

    Raises:
        Malformed: hop outside 1 to 8, another handshake, another length.
    """
    reader = Reader(body)
    hop = reader.u8()
    if not 1 <= hop <= MAX_HOPS:
        raise Malformed(f"a circuit has 1 to {MAX_HOPS} hops")
    return hop, _onion_skin(reader)


def _onion_skin(reader: Reader) -> bytes:
    if reader.u8() != HANDSHAKE_NTOR3_MLKEM768:
        raise Malformed("unknown handshake type")
    onion_skin = reader.lv16()
    if len(onion_skin) != CLIENT_BYTES:
        raise Malformed(f"an onion skin has {CLIENT_BYTES} bytes")
    return onion_skin


def encode_extend(node: NodeId, onion_skin: bytes) -> bytes:
    """The data of an EXTEND message."""
    return node + u8(HANDSHAKE_NTOR3_MLKEM768) + lv16(onion_skin)


def decode_extend_untrusted(data: bytes) -> tuple[NodeId, bytes]:
    """(node to extend to, onion skin).

    Raises:
        Malformed: another handshake, another length.
    """
    reader = Reader(data)
    node = NodeId(reader.take(NODE_ID_BYTES))
    onion_skin = _onion_skin(reader)
    reader.end()
    return node, onion_skin
