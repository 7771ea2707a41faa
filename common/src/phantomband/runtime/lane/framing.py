"""The two wire formats of a lane's frames; no I/O here.

Unix driver, each frame:           length 4 | kind 1 | payload         (length of the payload, big-endian)
gRPC driver, a `Frames` message:   { 0x0a | varint(1 + length) | kind 1 | payload } ...

The second is protobuf's own encoding of `repeated bytes frames = 1` (lane.proto), written and read without
its objects, which would cost two copies of each cell. Payloads are at most `MAX_FRAME_BYTES`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from phantomband.core.errors import Malformed
from phantomband.runtime.lane.base import MAX_FRAME_BYTES

UNIX_HEADER = struct.Struct("!IB")
"""length 4 | kind 1, 5 bytes."""

FRAMES_TAG = 0x0A
"""Protobuf tag of field 1, wire type 2 (length-delimited)."""

MAX_MESSAGE_BYTES = 2 * MAX_FRAME_BYTES
"""Limit of one gRPC message: a frame of the largest size and everything that may be merged with it."""

_VARINT_BYTES_MAX = 4
"""A varint of 4 bytes holds 28 bits, more than MAX_FRAME_BYTES + 1 needs."""


def frames_header(kind: int, length: int) -> bytes:
    """What stands before a payload of `length` bytes in a `Frames` message: 3 to 6 bytes."""
    return bytes((FRAMES_TAG,)) + _varint(length + 1) + bytes((kind,))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode_frames_untrusted(message: bytes) -> Iterator[tuple[int, memoryview]]:
    """The frames of one `Frames` message that holds frames only, as kind and a view of the payload.

    Raises:
        Malformed: another field, a frame without a kind, over the limit, or cut short. Frames before it were
        given.
    """
    view, at, end = memoryview(message), 0, len(message)
    while at < end:
        if view[at] != FRAMES_TAG:
            raise Malformed("a lane message holds something other than frames")
        length, at = _decode_varint(view, at + 1)
        if not 1 <= length <= MAX_FRAME_BYTES + 1 or at + length > end:
            raise Malformed("a lane frame is empty, too long or cut short")
        yield view[at], view[at + 1 : at + length]
        at += length


def _decode_varint(view: memoryview, at: int) -> tuple[int, int]:
    """Returns: the value and the offset behind it."""
    value = 0
    for index, byte in enumerate(view[at : at + _VARINT_BYTES_MAX]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, at + index + 1
    raise Malformed("a lane frame's length is too long or cut short")
