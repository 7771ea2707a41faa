"""Identifiers as types: parsed at the edge, never bare ints or bytes inside.

The hot path, which handles batches of cells, keeps circuit ids as the four bytes that stand in the cell.
"""

from __future__ import annotations

import base64
from typing import NewType

from phantomband.core.errors import Malformed

LinkId = NewType("LinkId", int)
"""A link of one gateway incarnation, 32 bits, never reused within it."""

CircuitId = NewType("CircuitId", bytes)
"""Four bytes; a link's dialer picks ids with the top bit clear, the listener with it set. Zero names the link."""

HopNumber = NewType("HopNumber", int)
"""Position of a relay in a circuit, 1 (guard) to 8."""

NODE_ID_BYTES = 32


class NodeId(bytes):
    """32 bytes: SHA3-256(Ed25519 key | ML-DSA-65 key) of a node (PROTOCOL.md section 2)."""

    __slots__ = ()

    def __new__(cls, value: bytes) -> NodeId:
        if len(value) != NODE_ID_BYTES:
            raise Malformed(f"a node id has {NODE_ID_BYTES} bytes, not {len(value)}")
        return super().__new__(cls, value)

    @classmethod
    def parse(cls, text: str) -> NodeId:
        """From the 52 lower-case base32 letters that `str()` gives."""
        try:
            node = cls(base64.b32decode(text.upper() + "=" * (-len(text) % 8)))
        except ValueError as e:
            raise Malformed("a node id is 52 letters of base32") from e
        if str(node) != text:
            raise Malformed("a node id is written in lower case, its last letter's spare bits zero")
        return node

    def __str__(self) -> str:
        return base64.b32encode(self).decode().rstrip("=").lower()

    def __repr__(self) -> str:
        """Short, and enough to tell nodes of one network apart."""
        return f"NodeId({str(self)[:8]})"
