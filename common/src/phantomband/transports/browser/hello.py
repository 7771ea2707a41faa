"""TLS ClientHellos from bytes, and their fingerprints JA3 and JA4.

JA3: MD5 of version, ciphers, extensions, groups and point formats as they stand there, without GREASE. Browsers shuffle
their extensions, so each connection has another JA3; `ja3(..., ordered=True)` sorts them first ("JA3N").
JA4: sorted, so equal for all connections of one browser. Sources: RFC 8446, section 4.1.2; salesforce/ja3;
FoxIO-LLC/ja4, technical_details/JA4.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from phantomband.core.errors import Malformed

HANDSHAKE = 22
"""Content type of a TLS record (RFC 8446, section 5.1)."""

CLIENT_HELLO = 1
MAX_HELLO = 32 * 1024
"""Bytes; a browser's has about 1,800."""

SERVER_NAME, GROUPS, POINT_FORMATS, SIGNATURES, ALPN, VERSIONS = 0, 10, 11, 13, 16, 43
"""Numbers of extensions (IANA)."""

_VERSION_NAMES = {0x0304: "13", 0x0303: "12", 0x0302: "11", 0x0301: "10", 0x0300: "s3"}


@dataclass(frozen=True, slots=True)
class ClientHello:
    """What is in one; lists in their order, GREASE included."""

    version: int
    """The old field; 0x0303 in TLS 1.3."""
    ciphers: tuple[int, ...]
    extensions: tuple[tuple[int, bytes], ...]

    def body(self, number: int) -> bytes | None:
        return next((body for kind, body in self.extensions if kind == number), None)

    def numbers(self, extension: int, prefix: int) -> tuple[int, ...]:
        """The 16-bit numbers of an extension whose list stands behind `prefix` bytes of length."""
        return _pairs((self.body(extension) or b"")[prefix:])

    @property
    def alpn(self) -> tuple[bytes, ...] | None:
        """Protocols offered; None: the extension is not there."""
        body = self.body(ALPN)
        if body is None:
            return None
        out, rest = [], body[2:]
        while rest:
            out.append(rest[1 : 1 + rest[0]])
            rest = rest[1 + rest[0] :]
        return tuple(out)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, count: int) -> bytes:
        part = self._data[self._at : self._at + count]
        if len(part) != count:
            raise Malformed("a ClientHello ends too early")
        self._at += count
        return part

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    @property
    def left(self) -> int:
        return len(self._data) - self._at


def parse_untrusted(data: bytes) -> ClientHello | None:
    """A ClientHello from the first TLS records of a connection. Returns: None: it is not there whole yet.

    Raises:
        Malformed: it is none.
    """
    message = bytearray()
    at = 0
    while len(message) < 4 or len(message) < 4 + int.from_bytes(message[1:4], "big"):
        if at < len(data) and data[at] != HANDSHAKE:
            raise Malformed("no TLS handshake")
        size = int.from_bytes(data[at + 3 : at + 5], "big")
        if len(data) < at + 5 + size or len(data) < at + 5:
            if len(data) > MAX_HELLO:
                raise Malformed("a ClientHello is too long")
            return None
        if not size:
            raise Malformed("an empty TLS record")
        message += data[at + 5 : at + 5 + size]
        at += 5 + size
    if message[0] != CLIENT_HELLO or len(message) > MAX_HELLO:
        raise Malformed("no ClientHello")
    return _hello(bytes(message[4 : 4 + int.from_bytes(message[1:4], "big")]))


def _hello(body: bytes) -> ClientHello:
    reader = _Reader(body)
    version = reader.number(2)
    reader.take(32)
    reader.take(reader.number(1))
    ciphers = _pairs(reader.take(reader.number(2)))
    reader.take(reader.number(1))
    extensions = []
    if reader.left:
        inner = _Reader(reader.take(reader.number(2)))
        while inner.left:
            kind = inner.number(2)
            extensions.append((kind, inner.take(inner.number(2))))
    return ClientHello(version, ciphers, tuple(extensions))


def _pairs(data: bytes) -> tuple[int, ...]:
    return tuple(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data) - 1, 2))


def is_grease(number: int) -> bool:
    """Whether a cipher, group or extension is a random filler (RFC 8701)."""
    return number & 0x0F0F == 0x0A0A and number >> 8 == number & 0xFF


def _real(numbers: Sequence[int]) -> list[int]:
    return [n for n in numbers if not is_grease(n)]


def ja3_text(hello: ClientHello, ordered: bool = False) -> str:
    """Args: ordered: whether to sort the extensions."""
    extensions = _real([kind for kind, _ in hello.extensions])
    formats = (hello.body(POINT_FORMATS) or b"")[1:]
    lists = (
        _real(hello.ciphers), sorted(extensions) if ordered else extensions,
        _real(hello.numbers(GROUPS, 2)), list(formats),
    )  # fmt: skip
    return ",".join((str(hello.version), *("-".join(map(str, numbers)) for numbers in lists)))


def ja3(hello: ClientHello, ordered: bool = False) -> str:
    """32 hex digits. MD5 is the fingerprint's definition; nothing rests on it."""
    return hashlib.md5(ja3_text(hello, ordered).encode(), usedforsecurity=False).hexdigest()


def ja4(hello: ClientHello) -> str:
    """36 characters, such as t13d1517h2_8daaf6152771_cb7bf5808d99."""
    versions = _real(hello.numbers(VERSIONS, 1)) or [hello.version]
    ciphers, extensions = _real(hello.ciphers), _real([kind for kind, _ in hello.extensions])
    head = (
        f"t{_VERSION_NAMES.get(max(versions), '00')}{'d' if SERVER_NAME in extensions else 'i'}"
        f"{min(len(ciphers), 99):02}{min(len(extensions), 99):02}{_ja4_alpn(hello)}"
    )
    signatures = ",".join(f"{n:04x}" for n in _real(hello.numbers(SIGNATURES, 2)))
    listed = ",".join(sorted(f"{n:04x}" for n in extensions if n not in (SERVER_NAME, ALPN)))
    return "_".join(
        (head, _short(",".join(sorted(f"{n:04x}" for n in ciphers))), _short(f"{listed}_{signatures}".rstrip("_")))
    )


def _ja4_alpn(hello: ClientHello) -> str:
    """First and last character of the first protocol; if one of them is no ASCII letter or digit, of its hex digits."""
    first = (hello.alpn or (b"",))[0]
    if not first:
        return "00"
    ends = bytes((first[0], first[-1]))
    return ends.decode() if ends.isalnum() else first.hex()[0] + first.hex()[-1]


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else "0" * 12
