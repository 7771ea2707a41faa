"""Who did not knock: HTTP/3 as nginx speaks it, on one QUIC connection.

    server  3  control: SETTINGS      7  QPACK decoder
    client  2, 6, 10 in any order: control, QPACK encoder, QPACK decoder
    client  0, 4, 8 ...: requests

What is wrong with a request ends its stream, what is wrong elsewhere the connection, with the codes that nginx 1.26
has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from qh3._hazmat import (
    DecoderStreamError,
    DecompressionFailed,
    HeaderTooLarge,
    QpackDecoder,
    StreamBlocked,
)

from phantomband.transports.quic.fields import Fields
from phantomband.transports.quic.frames import MAX_COLLECTED, Code, Frame, H3Error, frame, varint
from phantomband.transports.quic.qpack import cancellation
from phantomband.transports.quic.request import RequestStream
from phantomband.transports.quic.unidirectional import TABLE_BYTES, Unidirectional
from phantomband.transports.website.exchange import Site
from phantomband.transports.website.http import BadRequest
from phantomband.transports.website.server import KEEP_SECONDS, MAX_REQUESTS, Visitors

CONTROL, DECODER = 3, 7
"""Our streams."""

BLOCKED_STREAMS = 128
"""Requests that may wait for the dynamic table (nginx: http3_max_concurrent_streams)."""

SETTINGS = b"\x00" + frame(Frame.SETTINGS, b"\x01" + varint(TABLE_BYTES) + b"\x07" + varint(BLOCKED_STREAMS))
"""The control stream's beginning: QPACK_MAX_TABLE_CAPACITY and QPACK_BLOCKED_STREAMS."""

MAX_STREAMS = 128
"""Requests under way on one connection (nginx: http3_max_concurrent_streams)."""

HELD_BYTES = 256 * 1024
"""Of heads that are not whole or wait for the dynamic table, on one connection; more ends it."""

UNSENT_BYTES = 256 * 1024
"""Of answers that wait in the library on one connection; the site gives no more then."""


EMPTY_SECTION_BYTES = 2
"""A header section without a line (RFC 9204, section 4.5.1)."""


class Wire(Protocol):
    """The QUIC connection below."""

    def unsent_on(self, stream: int | None) -> int:
        """Bytes that wait; None: of all streams."""

    def send_on(self, stream: int, data: bytes, end: bool) -> None: ...

    def reset(self, stream: int, code: int) -> None: ...

    def stop(self, stream: int, code: int) -> None: ...

    def transmit(self) -> None: ...

    def transmit_soon(self) -> None: ...

    def end(self, code: int, why: str) -> None:
        """Closes the connection."""


@dataclass(frozen=True, slots=True)
class Rooms:
    """What all connections of a listener share."""

    site: Site
    visitors: Visitors
    clock: Callable[[], float]
    """Seconds since 1970."""


class Visitor:
    """Args: wire: the connection, its handshake done; who: by which it is counted among the visitors."""

    def __init__(self, wire: Wire, rooms: Rooms, who: object) -> None:
        self._wire, self._rooms, self._who = wire, rooms, who
        self.site, self.clock = rooms.site, rooms.clock
        self._loop = asyncio.get_running_loop()
        self._requests: dict[int, RequestStream] = {}
        self._past: set[int] = set()  # at most MAX_REQUESTS
        self._stopping: set[int] = set()  # whose answer goes out before STOP_SENDING does
        self._blocked: dict[int, int] = {}  # stream: bytes of a head that waits for the dynamic table
        self._decoder = QpackDecoder(TABLE_BYTES, BLOCKED_STREAMS, max_field_section_size=2 * MAX_COLLECTED)
        self._uni = Unidirectional(self._decoder)
        self._over = False
        self._idle = self._loop.call_later(KEEP_SECONDS, self._keep_over)
        wire.send_on(CONTROL, SETTINGS, False)
        wire.send_on(DECODER, b"\x03", False)

    # from the connection below

    def received_untrusted(self, stream: int, data: bytes, end: bool) -> None:
        """Bytes of any stream of the client's."""
        if self._over:
            return
        if stream & 0x2:
            try:
                self._uni.received_untrusted(stream, data, end)
            except H3Error as error:
                if not end:
                    self.stop(stream, Code.NO_ERROR)
                    self._wire.transmit()
                self.close(error.code, "stream error")
            else:
                self._unblock_untrusted()
        elif (request := self._request(stream)) is not None:
            request.received_untrusted(data, end)
            if sum(r.held for r in self._requests.values()) + sum(self._blocked.values()) > HELD_BYTES:
                self.close(Code.EXCESSIVE_LOAD, "")
        self._wire.transmit_soon()

    def awaits_untrusted(self, stream: int) -> bool:
        """Whether a request on `stream` is under way; it begins with this."""
        return not self._over and self._request(stream) is not None

    def _request(self, stream: int) -> RequestStream | None:
        """The request on `stream`, a new one if there was none."""
        found = self._requests.get(stream)
        if found is not None or stream in self._past:
            return found
        number = stream >> 2
        if number >= MAX_REQUESTS:
            self.close(Code.NO_ERROR, "reached maximum number of requests")
            return None
        if number == MAX_REQUESTS - 1:
            self._wire.send_on(CONTROL, frame(Frame.GOAWAY, varint(MAX_REQUESTS << 2)), False)
        self._past.add(stream)
        if len(self._requests) >= MAX_STREAMS:
            self.reset(stream, Code.REQUEST_REJECTED)
            self.stop(stream, Code.NO_ERROR)
            return None
        self._idle.cancel()
        self._requests[stream] = RequestStream(self, stream)
        return self._requests[stream]

    def _unblock_untrusted(self) -> None:
        for stream in list(self._blocked):
            request = self._requests.get(stream)
            try:
                acknowledged, fields = self._decoder.resume_header(stream)
            except StreamBlocked:
                continue
            except (DecompressionFailed, DecoderStreamError, HeaderTooLarge):
                self.close(Code.QPACK_DECOMPRESSION_FAILED, "stream error")
                return
            del self._blocked[stream]
            if request is not None:
                self._wire.send_on(DECODER, acknowledged, False)
                request.headed_untrusted(fields)

    def reset_untrusted(self, stream: int) -> None:
        """The peer sends no more on `stream`."""
        if stream & 0x2 and not self._over:
            self.close(Code.INTERNAL_ERROR, "stream error")
        elif (request := self._requests.get(stream)) is not None:
            request.reset_by_peer()
            self._wire.transmit_soon()

    def stopped_untrusted(self, stream: int) -> None:
        """The peer wants no more on `stream`."""
        if stream in (CONTROL, DECODER) and not self._over:
            self.close(Code.CLOSED_CRITICAL_STREAM, "stream error")
        elif (request := self._requests.get(stream)) is not None:
            request.stopped_by_peer()
            self._wire.transmit_soon()

    def moved(self) -> None:
        """The library has sent something."""
        for request in list(self._requests.values()):
            request.moved()
        for stream in [s for s in self._stopping if not self._wire.unsent_on(s)]:
            self._stopping.discard(stream)
            self.stop(stream, Code.NO_ERROR)
            self._wire.transmit_soon()

    def ended(self) -> None:
        """The connection is gone, or a client's."""
        if not self._over:
            self._over = True
            self._idle.cancel()
            self._rooms.visitors.drop(self._who)
            for request in self._requests.values():
                request.cancel()
            self._requests.clear()

    def close(self, code: Code, why: str) -> None:
        """Args: why: the phrase that nginx gives."""
        self.ended()
        self._wire.end(code, why)

    def _keep_over(self) -> None:
        self.close(Code.NO_ERROR, "keepalive timeout")

    # for requests

    @property
    def full(self) -> bool:
        return self._wire.unsent_on(None) > UNSENT_BYTES

    def unsent(self, stream: int) -> int:
        return self._wire.unsent_on(stream)

    def send(self, stream: int, data: bytes, end: bool = False) -> None:
        self._wire.send_on(stream, data, end)
        self._wire.transmit_soon()

    def reset(self, stream: int, code: Code) -> None:
        self._wire.reset(stream, code)
        self._wire.transmit_soon()

    def stop(self, stream: int, code: Code) -> None:
        self._wire.stop(stream, code)

    def stop_behind(self, stream: int) -> None:
        self._stopping.add(stream)

    def decode_untrusted(self, stream: int, section: bytes) -> Fields | None:
        """See `Around`."""
        try:
            acknowledged, fields = self._decoder.feed_header(stream, section)
        except StreamBlocked:
            self._blocked[stream] = len(section)
            return None
        except HeaderTooLarge:
            raise BadRequest(494, "the head is too long") from None
        except (DecompressionFailed, DecoderStreamError):
            cut = len(section) <= EMPTY_SECTION_BYTES
            raise H3Error(Code.FRAME_ERROR if cut else Code.QPACK_DECOMPRESSION_FAILED) from None
        if acknowledged:
            self._wire.send_on(DECODER, acknowledged, False)
        return fields

    def asked(self) -> None:
        self._rooms.visitors.seen(self._who)

    def over(self, stream: int, headed: bool) -> None:
        """See `Around`. One without a head is told to the encoder (RFC 9204, section 4.4.2)."""
        self._requests.pop(stream, None)
        if not headed and not self._over:
            self._wire.send_on(DECODER, cancellation(stream), False)
        if not self._requests and not self._over:
            self._idle = self._loop.call_later(KEEP_SECONDS, self._keep_over)
