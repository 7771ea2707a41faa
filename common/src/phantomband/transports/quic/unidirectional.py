"""The client's one-way streams of HTTP/3: control, QPACK encoder, QPACK decoder (RFC 9114, section 6.2).

Each begins with its type. As with nginx, there is one of each at most, and nothing else.
"""

from __future__ import annotations

from qh3._hazmat import DecoderStreamError, EncoderStreamError, HeaderTooLarge, QpackDecoder

from phantomband.transports.quic.frames import (
    Code,
    ControlRules,
    Frames,
    H3Error,
    TooLong,
    settings_untrusted,
    varint_untrusted,
)

CONTROL, ENCODER, DECODER = 0, 2, 3
"""Types."""

TABLE_BYTES = 4096
"""Of the dynamic table that a client may use (nginx: http3_max_table_capacity)."""

_CANCEL_MASK, _CANCEL = 0xC0, 0x40
"""The decoder's instruction that we may be sent: all others are about a dynamic table, and we use none."""


class Unidirectional:
    """Args: decoder: of the requests' heads; is given what the encoder stream brings."""

    def __init__(self, decoder: QpackDecoder) -> None:
        self._decoder = decoder
        self._kinds: dict[int, int] = {}
        self._heads: dict[int, bytes] = {}  # types that are not whole: below 8 bytes each
        self._control = Frames(ControlRules().wanted_untrusted)
        self._number = False  # whether an integer of the decoder stream goes on

    def received_untrusted(self, stream: int, data: bytes, end: bool) -> None:
        """Raises: H3Error: the connection must end."""
        kind = self._kinds.get(stream)
        if kind is None:
            data = self._heads.pop(stream, b"") + data
            head = varint_untrusted(data)
            if head is None:
                self._heads[stream] = data
                if end:
                    raise H3Error(Code.CLOSED_CRITICAL_STREAM)
                return
            kind, data = head[0], data[head[1] :]
            if kind not in (CONTROL, ENCODER, DECODER) or kind in self._kinds.values():
                raise H3Error(Code.STREAM_CREATION_ERROR)
            self._kinds[stream] = kind
        if data:
            self._read_untrusted(kind, data)
        if end:
            raise H3Error(Code.CLOSED_CRITICAL_STREAM)

    def _read_untrusted(self, kind: int, data: bytes) -> None:
        if kind == CONTROL:
            try:
                for _, payload in self._control.feed_untrusted(data):
                    settings_untrusted(payload)
            except TooLong:
                raise H3Error(Code.EXCESSIVE_LOAD) from None
        elif kind == ENCODER:
            try:
                self._decoder.feed_encoder(data)
            except (EncoderStreamError, DecoderStreamError, HeaderTooLarge):
                raise H3Error(Code.QPACK_ENCODER_STREAM_ERROR) from None
        else:
            self._cancellations_untrusted(data)

    def _cancellations_untrusted(self, data: bytes) -> None:
        for byte in data:
            if self._number:
                self._number = bool(byte & 0x80)
            elif byte & _CANCEL_MASK != _CANCEL:
                raise H3Error(Code.QPACK_DECODER_STREAM_ERROR)
            else:
                self._number = byte & 0x3F == 0x3F
