"""One TLS connection over another connection: OpenSSL or BoringSSL between two memory buffers.

Not asyncio's own TLS, for three reasons: `buffered` counts all that waits (asyncio forgets what its inner
transport holds), it runs alike on every event loop, and TLS records are cut here, independently of cell
boundaries (PROTOCOL.md section 5: records of k x 2,048 + c bytes are a fingerprint):

    all that was written in one loop iteration, joined   =   full records 16,384 ... | rest cut once, at
    random
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

from phantomband.transports.base import Accept, Buffer
from phantomband.transports.layered import LayeredConnection, Lower, Settled

RECORD_BYTES = 16 * 1024
"""The largest plaintext of a TLS record (RFC 8446, section 5.1)."""

PART_BYTES = 2 * RECORD_BYTES
"""Given to TLS at once: larger parts cost the browser's library three times the time (measured)."""

RandomSource = Callable[[int], bytes]


class TlsConnection(LayeredConnection):
    """TLS over a byte stream, either end.

    Args:
        tls: an SSLObject over `incoming` and `outgoing`, its handshake not yet begun.
        buffer: where plaintext is put for the receiver.
        random: where to cut; two bytes a flush.
    """

    _HANDSHAKE = "TLS handshake"

    def __init__(
        self,
        lower: Lower,
        tls: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        accept: Accept,
        settled: Settled,
        buffer: memoryview,
        random: RandomSource,
    ) -> None:
        super().__init__(lower, accept, settled)
        self._tls, self._incoming, self._outgoing = tls, incoming, outgoing
        self._buffer, self._random = buffer, random
        self.cuts = True
        """Whether the rest of a flush is cut in two records. Not for what must look like a browser or web server."""
        self.together = 0
        """Bytes at the beginning of the next flush that stand in one record."""

    # from the connection below

    def start(self) -> None:
        """The client speaks first."""
        self._shake_hands()

    def received(self, data: Buffer) -> None:
        self._incoming.write(data)
        if self._receiver is None:
            self._shake_hands()
        if self._receiver is not None:
            self._deliver()

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
        self._begin()

    def _fail(self, error: Exception) -> None:
        """The peer's TLS is wrong: the library's alert goes out, as any server's would, and the connection ends."""
        self._error = error
        self._closing = True
        self._push()
        self._lower.close()

    def _deliver(self) -> None:
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

    # from above

    @property
    def alpn(self) -> str | None:
        """The protocol agreed on; None: none was."""
        return self._tls.selected_alpn_protocol()

    def _encode(self, data: bytes) -> None:
        view = memoryview(data)
        whole = len(view) // RECORD_BYTES * RECORD_BYTES
        cut = whole + self._cut(len(view) - whole)
        for at in range(0, whole, PART_BYTES):
            self._tls.write(view[at : min(at + PART_BYTES, whole)])
        for part in (view[whole:cut], view[cut:]):
            if part:
                self._tls.write(part)
        self._lower.write(self._outgoing.read())

    def _cut(self, rest: int) -> int:
        least, self.together = min(self.together, rest), 0
        if rest == least or not self.cuts:
            return rest
        return least + int.from_bytes(self._random(2), "big") % (rest - least)

    def _push(self) -> None:
        self._lower.write(self._outgoing.read())
        self._lower.flush()

    def close(self) -> None:
        if self._closing:
            return
        self.flush()
        self._closing = True
        try:
            self._tls.unwrap()  # writes close_notify; nobody waits for the peer's
        except ssl.SSLError:
            pass
        self._push()
        self._lower.close()
