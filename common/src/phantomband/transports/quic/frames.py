"""Frames of HTTP/3 (RFC 9114, section 7.1), and which of them a client may send where.

frame = type (variable-length integer, RFC 9000, section 16) | length (such an integer) | payload
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import IntEnum

from phantomband.core.errors import Malformed


class Code(IntEnum):
    """Error codes (RFC 9114, section 8.1; RFC 9204, section 8.3)."""

    NO_ERROR = 0x100
    GENERAL_PROTOCOL_ERROR = 0x101
    INTERNAL_ERROR = 0x102
    STREAM_CREATION_ERROR = 0x103
    CLOSED_CRITICAL_STREAM = 0x104
    FRAME_UNEXPECTED = 0x105
    FRAME_ERROR = 0x106
    EXCESSIVE_LOAD = 0x107
    ID_ERROR = 0x108
    SETTINGS_ERROR = 0x109
    MISSING_SETTINGS = 0x10A
    REQUEST_REJECTED = 0x10B
    QPACK_DECOMPRESSION_FAILED = 0x200
    QPACK_ENCODER_STREAM_ERROR = 0x201
    QPACK_DECODER_STREAM_ERROR = 0x202


class Frame(IntEnum):
    """Types of frames (RFC 9114, section 11.2.1)."""

    DATA = 0x0
    HEADERS = 0x1
    CANCEL_PUSH = 0x3
    SETTINGS = 0x4
    PUSH_PROMISE = 0x5
    GOAWAY = 0x7
    MAX_PUSH_ID = 0xD


_OF_HTTP2 = frozenset((0x2, 0x6, 0x8, 0x9))
"""Types that HTTP/2 had; they MUST NOT be sent (RFC 9114, section 7.2.8)."""

_NOT_IN_REQUESTS = _OF_HTTP2 | set(Frame) - {Frame.HEADERS}
_NOT_IN_CONTROL = _OF_HTTP2 | {Frame.DATA, Frame.HEADERS, Frame.PUSH_PROMISE}

MAX_COLLECTED = 64 * 1024
"""Bytes of a frame that is read as a whole: more than two heads of the largest size."""


class H3Error(Malformed):
    """What a visitor did wrong. Args: code: it is told this, for one stream or for the connection."""

    def __init__(self, code: Code) -> None:
        super().__init__(code.name)
        self.code = code


class TooLong(Malformed):
    """A frame that would have to be collected is longer than MAX_COLLECTED."""


def varint_untrusted(data: bytes | bytearray, at: int = 0) -> tuple[int, int] | None:
    """Returns: the integer at `at` and where it ends; None: it is not there whole."""
    if at >= len(data):
        return None
    end = at + (1 << (data[at] >> 6))
    if end > len(data):
        return None
    return int.from_bytes(data[at:end], "big") & ((1 << (8 * (end - at) - 2)) - 1), end


def varint(value: int) -> bytes:
    """The shortest form of a variable-length integer below 2^62."""
    for power, size in enumerate((1, 2, 4, 8)):
        if value < 1 << (8 * size - 2):
            return (value | power << (8 * size - 2)).to_bytes(size, "big")
    raise ValueError("not below 2^62")


def frame(kind: int, payload: bytes) -> bytes:
    return varint(kind) + varint(len(payload)) + payload


def wanted_in_request_untrusted(kind: int) -> bool:
    """Whether a frame in front of a request's head is to be collected; what is unknown is passed over.

    Raises:
        H3Error: it may not stand there.
    """
    if kind in _NOT_IN_REQUESTS:
        raise H3Error(Code.FRAME_UNEXPECTED)
    return kind == Frame.HEADERS


class ControlRules:
    """Which frames a client may send on its control stream."""

    def __init__(self) -> None:
        self._settings = False

    def wanted_untrusted(self, kind: int) -> bool:
        """Raises: H3Error: it may not come now."""
        if not self._settings and kind != Frame.SETTINGS:
            raise H3Error(Code.MISSING_SETTINGS)
        if kind in _NOT_IN_CONTROL or (self._settings and kind == Frame.SETTINGS):
            raise H3Error(Code.FRAME_UNEXPECTED)
        if kind == Frame.CANCEL_PUSH:  # of a push that was never promised
            raise H3Error(Code.ID_ERROR)
        self._settings = True
        return kind == Frame.SETTINGS


class Frames:
    """Cuts a stream's bytes into frames. What is not collected is passed over and never kept.

    Args:
        wanted: called with each frame's type; whether it is collected.
    """

    def __init__(self, wanted: Callable[[int], bool]) -> None:
        self._wanted = wanted
        self._head = bytearray()  # type and length: at most 16 bytes
        self._kind: int | None = None
        self._left = 0
        self._collected: bytearray | None = None

    @property
    def held(self) -> int:
        """Bytes that are kept."""
        return len(self._head) + len(self._collected or b"")

    def feed_untrusted(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yields: type and payload of each collected frame.

        Raises:
            TooLong: see there.
            H3Error: what `wanted` raises.
        """
        rest = memoryview(data)
        while True:
            if self._kind is not None:
                taken = rest[: self._left]
                rest = rest[len(taken) :]
                self._left -= len(taken)
                if self._collected is not None:
                    self._collected += taken
                if self._left:
                    return
                kind, whole, self._kind, self._collected = self._kind, self._collected, None, None
                if whole is not None:
                    yield kind, bytes(whole)
            if not rest:
                return
            rest = self._begin_untrusted(rest)

    def _begin_untrusted(self, data: memoryview) -> memoryview:
        """Reads type and length. Returns: what follows; nothing if they are not there whole."""
        before = len(self._head)
        self._head += data[: 16 - before]
        kind = varint_untrusted(self._head)
        if kind is None:
            return data[len(data) :]
        collect = self._wanted(kind[0]) if before < kind[1] else self._collected is not None
        self._collected = bytearray() if collect else None
        length = varint_untrusted(self._head, kind[1])
        if length is None:
            return data[len(data) :]
        if collect and length[0] > MAX_COLLECTED:
            raise TooLong("a frame is too long")
        self._kind, self._left = kind[0], length[0]
        self._head.clear()
        return data[length[1] - before :]


def settings_untrusted(payload: bytes) -> None:
    """Checks the form of a SETTINGS frame; the values are for who sends pushes or a dynamic table, which we do not.

    Raises:
        H3Error: it is cut off.
    """
    at = 0
    while at < len(payload):
        for _ in range(2):
            number = varint_untrusted(payload, at)
            if number is None:
                raise H3Error(Code.SETTINGS_ERROR)
            at = number[1]
