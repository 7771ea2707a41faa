"""Header sections of answers in QPACK's static table (RFC 9204), with nginx's choice of forms: byte for byte the same.

section = 00 00 | line ...
line    = indexed, or index of the name | value, or name | value          strings in Huffman's code where shorter
"""

from __future__ import annotations

from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

STATUS_OK = 25
"""`:status 200` in the static table (RFC 9204, appendix A), which nginx also takes for the name of other statuses."""

LENGTH_NONE = 4
"""`content-length 0`."""

NAMES = {b"server": 92, b"date": 6, b"content-type": 53, b"content-length": LENGTH_NONE, b"last-modified": 10,
         b"location": 12}  # fmt: skip
"""Names that nginx gives by their index; all others it spells out."""

_PLAIN = frozenset((b":status", b"content-length"))
"""Whose values it never puts in Huffman's code."""


def huffman_bytes(text: bytes) -> int:
    """How long `text` is in Huffman's code."""
    return (sum(REQUEST_CODES_LENGTH[byte] for byte in text) + 7) // 8


def huffman(text: bytes) -> bytes:
    """RFC 7541, section 5.2 and appendix B."""
    out, bits, count = bytearray(), 0, 0
    for byte in text:
        bits = bits << REQUEST_CODES_LENGTH[byte] | REQUEST_CODES[byte]
        count += REQUEST_CODES_LENGTH[byte]
        while count >= 8:
            count -= 8
            out.append(bits >> count)
            bits &= (1 << count) - 1
    if count:
        out.append((bits << (8 - count)) | (0xFF >> count))
    return bytes(out)


def encode(fields: list[tuple[bytes, bytes]]) -> bytes:
    return b"\0\0" + b"".join(_line(name, value) for name, value in fields)


def _line(name: bytes, value: bytes) -> bytes:
    if (name, value) in ((b":status", b"200"), (b"content-length", b"0")):
        return _integer(0xC0, 6, STATUS_OK if name == b":status" else LENGTH_NONE)
    text = _integer(0, 7, len(value)) + value if name in _PLAIN else _string(0, 7, value)
    index = STATUS_OK if name == b":status" else NAMES.get(name)
    return (_string(0x20, 3, name) if index is None else _integer(0x50, 4, index)) + text


def _string(first: int, bits: int, text: bytes) -> bytes:
    """A length of `bits` bits and more behind the bit that says how `text` is coded."""
    if huffman_bytes(text) < len(text):
        return _integer(first | 1 << bits, bits, huffman_bytes(text)) + huffman(text)
    return _integer(first, bits, len(text)) + text


def _integer(first: int, bits: int, value: int) -> bytes:
    """An integer with a prefix of `bits` bits, the bits of `first` before it (RFC 7541, section 5.1)."""
    most = (1 << bits) - 1
    if value < most:
        return bytes((first | value,))
    out, rest = bytearray((first | most,)), value - most
    while rest >= 0x80:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes((*out, rest))


def cancellation(stream: int) -> bytes:
    """The decoder's instruction Stream Cancellation (RFC 9204, section 4.4.2)."""
    return _integer(0x40, 6, stream)
