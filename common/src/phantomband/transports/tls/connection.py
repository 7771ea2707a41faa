"""One TLS connection over a `StreamConnection`: OpenSSL between two memory buffers.

Not asyncio's own TLS, for three reasons: `buffered` counts all that waits (asyncio forgets what its inner
transport holds), it runs alike on every event loop, and TLS records are cut here, independently of cell
boundaries (PROTOCOL.md section 5: records of k x 2,048 + c bytes are a fingerprint):

    all that was written in one loop iteration, joined   =   full records 16,384 ... | rest cut once, at
    random
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

from phantomband.transports.base import Accept, Buffer, Connection, Receiver
from phantomband.transports.tcp.connection import StreamConnection

RECORD_BYTES = 16 * 1024
"""The largest plaintext of a TLS record (RFC 8446, section 5.1)."""

RandomSource = Callable[[int], bytes]


class TlsConnection(Connection):
    """The receiver of the TCP connection below, and the connection of the receiver above.

    Args:
        lower: the TCP connection.
        tls: an SSLObject over `incoming` and `outgoing`, its handshake not yet begun.
        accept: called once the handshake is done.
        settled: called once: with None after `accept`, or with why there will be no connection.
        buffer: where plaintext is put for the receiver.
        random: where to cut; two bytes a flush.
    """

    def __init__(
        self,
        lower: StreamConnection,
        tls: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        accept: Accept,
        settled: Callable[[Exception | None], None],
        buffer: memoryview,
        random: RandomSource,
    ) -> None:
        self._lower = lower
        self._tls = tls
        self._incoming = incoming
        self._outgoing = outgoing
        self._accept = accept
        self._settled = settled
        self._buffer = buffer
        self._random = random
        self._loop = asyncio.get_running_loop()
        self._receiver: Receiver | None = None
        self._waiting: list[Buffer] = []
        self._waiting_bytes = 0
        self._reading = True
        self._closing = False
        self._error: Exception | None = None

    # from the TCP connection

    def start(self) -> None:
        """The client speaks first."""
        self._shake_hands()

    def received(self, data: Buffer) -> None:
        self._incoming.write(data)
        if self._receiver is None:
            self._shake_hands()
        if self._receiver is not None:
            self._read()

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._push()
            return
        except ssl.SSLError as error:
            self._fail(error)
            return
        self._push()
        self._receiver = self._accept(self)
        self._settled(None)

    def _fail(self, error: Exception) -> None:
        """The peer's TLS is wrong: OpenSSL's alert goes out, as any server's would, and the connection
        ends."""
        self._error = error
        self._closing = True
        self._push()
        self._lower.close()

    def _read(self) -> None:
        """Decrypts what has come and hands it on, as much at once as the buffer holds."""
        while self._reading and not self._closing:
            filled, more = self._decrypt()
            if filled and self._receiver is not None:
                self._receiver.received(self._buffer[:filled])
            if not more:
                return

    def _decrypt(self) -> tuple[int, bool]:
        """Returns: plaintext bytes now in the buffer, and whether to come back for more."""
        filled = 0
        try:
            while filled < len(self._buffer):
                count = self._tls.read(len(self._buffer) - filled, self._buffer[filled:])
                if not count:  # close_notify
                    self._loop.call_soon(self.close)
                    return filled, False
                filled += count  # type: ignore[operator]
        except ssl.SSLWantReadError:
            if self._outgoing.pending:
                self._push()
            return filled, False
        except ssl.SSLZeroReturnError:
            self._loop.call_soon(self.close)
            return filled, False
        except ssl.SSLError as error:
            self._fail(error)
            return filled, False
        return filled, True

    def writable(self) -> None:
        if self._receiver is not None and not self._closing:
            self._receiver.writable()

    def closed(self, error: Exception | None) -> None:
        self._closing = True
        error = error or self._error
        if self._receiver is not None:
            self._receiver.closed(error)
        else:
            self._settled(error or ConnectionError("the peer closed during the TLS handshake"))

    # from above

    def write(self, data: Buffer) -> None:
        if self._closing:
            return
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(data)
        self._waiting_bytes += len(data)

    def _flush(self) -> None:
        if not self._waiting:
            return
        data = memoryview(b"".join(self._waiting))
        self._waiting, self._waiting_bytes = [], 0
        whole = len(data) // RECORD_BYTES * RECORD_BYTES
        cut = whole + self._cut(len(data) - whole)
        for part in (data[:whole], data[whole:cut], data[cut:]):
            if part:
                self._tls.write(part)
        self._push()

    def _cut(self, rest: int) -> int:
        return int.from_bytes(self._random(2), "big") % rest if rest else 0

    def _push(self) -> None:
        """Ciphertext is longer than its plaintext: if we were congested, the connection below is, and will
        say so."""
        self._lower.write(self._outgoing.read())
        self._lower.flush()

    @property
    def buffered(self) -> int:
        return self._waiting_bytes + self._lower.buffered

    def pause_reading(self) -> None:
        self._reading = False
        self._lower.pause_reading()

    def resume_reading(self) -> None:
        if not self._reading:
            self._reading = True
            self._lower.resume_reading()
            self._loop.call_soon(self._read)

    def close(self) -> None:
        if self._closing:
            return
        self._flush()
        self._closing = True
        try:
            self._tls.unwrap()  # writes close_notify; nobody waits for the peer's
        except ssl.SSLError:
            pass
        self._push()
        self._lower.close()

    def abort(self) -> None:
        self._closing = True
        self._lower.abort()
