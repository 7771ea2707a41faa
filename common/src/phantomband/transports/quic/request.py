"""One request's stream of a visitor: the head is read, the site answers, and what follows the head is passed over.

HEADERS ... | FIN     ->  HEADERS, DATA of the whole length ... | FIN; STOP_SENDING if more was to come
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from phantomband.transports.quic.fields import Fields, fields_of, request_untrusted
from phantomband.transports.quic.frames import (
    Code,
    Frame,
    Frames,
    H3Error,
    TooLong,
    frame,
    varint,
    wanted_in_request_untrusted,
)
from phantomband.transports.quic.qpack import encode
from phantomband.transports.website import answers
from phantomband.transports.website.exchange import Answer, Exchange, Site
from phantomband.transports.website.http import BadRequest, Request
from phantomband.transports.website.server import BUSY_SECONDS, HEAD_SECONDS, MAX_BODY

STREAM_BYTES = 64 * 1024
"""Of an answer that wait in the library on one stream; the site gives no more then."""


class Around(Protocol):
    """What a request needs of its connection."""

    site: Site
    clock: Callable[[], float]

    @property
    def full(self) -> bool:
        """Whether the connection as a whole holds enough."""

    def unsent(self, stream: int) -> int: ...

    def send(self, stream: int, data: bytes, end: bool = False) -> None: ...

    def reset(self, stream: int, code: Code) -> None: ...

    def stop(self, stream: int, code: Code) -> None: ...

    def stop_behind(self, stream: int) -> None:
        """Once the answer has gone out: clients that read this first take the request for failed."""

    def decode_untrusted(self, stream: int, section: bytes) -> Fields | None:
        """None: the fields come later, by `RequestStream.headed`. Raises: H3Error, BadRequest."""

    def asked(self) -> None:
        """A head came whole."""

    def over(self, stream: int, headed: bool) -> None:
        """Nothing more is sent on it. Args: headed: whether its head was read."""


class RequestStream:
    """Reads a request and writes its answer (`Out`)."""

    def __init__(self, around: Around, stream: int) -> None:
        self._around, self._stream = around, stream
        self._frames = Frames(wanted_in_request_untrusted)
        self._request: Request | None = None
        self._exchange: Exchange | None = None
        self._was_congested = self._headed = self._ended = self._over = False
        self._framed = False  # whether one DATA frame holds the whole body
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(HEAD_SECONDS, self._late)

    # from the connection

    @property
    def held(self) -> int:
        """Bytes of a head that is not whole."""
        return self._frames.held

    def received_untrusted(self, data: bytes, end: bool) -> None:
        """What is wrong with it concerns this stream alone, as with nginx."""
        self._ended = self._ended or end
        if self._headed or self._over:
            return
        try:
            for _, section in self._frames.feed_untrusted(data):
                self._headed = True
                fields = self._around.decode_untrusted(self._stream, section)
                if fields is not None:
                    self._serve_untrusted(fields)
                return
        except TooLong:
            self._headed = True
            self._answer_error(494)
        except H3Error as error:
            self._fail(error.code)
        else:
            if end:
                self._fail(Code.INTERNAL_ERROR)  # says nginx; RFC 9114, section 4.1, would have REQUEST_INCOMPLETE

    def headed_untrusted(self, fields: Fields) -> None:
        """The head that waited for the dynamic table."""
        try:
            self._serve_untrusted(fields)
        except H3Error as error:
            self._fail(error.code)

    def _serve_untrusted(self, fields: Fields) -> None:
        try:
            request = request_untrusted(fields)
        except BadRequest as error:
            self._answer_error(error.status)
            return
        self._around.asked()
        self._request = request
        self._patience()
        if int(request.headers.get("content-length", "0")) > MAX_BODY:
            self._answer_error(413)
            return
        self._exchange = self._around.site.answer(request, self)

    def _answer_error(self, status: int) -> None:
        answers.refuse(status, self._request, self)

    def moved(self) -> None:
        """The library has sent something."""
        if self._was_congested and not self.congested:
            self._was_congested = False
            if self._exchange is not None:
                self._patience()
                self._exchange.writable()

    def reset_by_peer(self) -> None:
        self._ended = True
        if not self._headed:
            self._fail(Code.INTERNAL_ERROR)

    def stopped_by_peer(self) -> None:
        self._fail(Code.REQUEST_REJECTED if not self._headed else Code.INTERNAL_ERROR)

    def _late(self) -> None:
        self._fail(Code.GENERAL_PROTOCOL_ERROR)

    def _fail(self, code: Code) -> None:
        if not self._over:
            # What is too long is refused by nginx as soon as it says so, in front of its end.
            self._ended = self._ended and code != Code.EXCESSIVE_LOAD
            self._around.reset(self._stream, code)
            if not self._ended:
                self._around.stop(self._stream, Code.NO_ERROR)
            self._finish()

    def cancel(self) -> None:
        """The connection is gone, or somebody else's."""
        self._over = True
        self._timer.cancel()
        if self._exchange is not None:
            self._exchange.cancel()
            self._exchange = None

    def _finish(self) -> None:
        self.cancel()
        self._around.over(self._stream, self._request is not None)

    def _patience(self) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_later(BUSY_SECONDS, self._late)

    # for the site

    @property
    def congested(self) -> bool:
        congested = self._around.full or self._around.unsent(self._stream) > STREAM_BYTES
        self._was_congested = self._was_congested or congested
        return congested

    def head(self, answer: Answer) -> None:
        if self._over:
            return
        data = frame(Frame.HEADERS, encode(fields_of(answer, self._around.clock())))
        bodiless = self._request is not None and self._request.method == "HEAD"
        if answer.length and not bodiless:
            self._framed = True
            data += varint(Frame.DATA) + varint(answer.length)
        self._around.send(self._stream, data)

    def send(self, data: bytes) -> None:
        if data and not self._over:
            if self._exchange is not None:
                self._patience()
            self._around.send(self._stream, data if self._framed else frame(Frame.DATA, data))

    def done(self, whole: bool) -> None:
        if self._over:
            return
        self._exchange = None
        if not whole:
            self._fail(Code.INTERNAL_ERROR)
            return
        self._around.send(self._stream, b"", True)
        if not self._ended:
            self._around.stop_behind(self._stream)
        self._finish()
