"""Addresses as documents carry them: the name of a transport, an IP address, a port, public parameters.

    transport 1+n | family 1 (4 or 6) | IP 4 or 16 | port 2 | count 1 | (key 1+n | value 2+n) * count

Keys are sorted and unique. As text, in files: `tcp://192.0.2.1:9001`,
`quic://[2001:db8::1]:443?sni=example.org`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self
from urllib.parse import parse_qsl, quote, urlsplit

from phantomband.core.errors import Malformed
from phantomband.core.netdir.codec import sorted_unique, text_untrusted
from phantomband.core.wire import Reader, lv8, lv16, u8, u16

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_ADDRESSES = 8
"""Of one node."""

MAX_PARAMETERS = 8
"""Of one address."""

MAX_ADDRESSES_BYTES = 1024
"""Of all addresses of one node in a document, encoded: eight of the longest would have 35 KB in every view."""

MAX_TRANSPORT_BYTES = 16
MAX_KEY_BYTES = 32
MAX_VALUE_BYTES = 512

_NAME = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)


def parse_ip(text: str) -> IPAddress:
    """An IP address literal without a zone.

    Raises:
        ValueError: it is anything else.
    """
    if "%" in text:
        raise ValueError("an address with a zone works on one machine only")
    return ipaddress.ip_address(text)


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """Where a gateway listens. The host is a canonical IP literal and is never looked up."""

    transport: str
    host: str
    port: int
    parameters: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        _check_name(self.transport, "a transport's name", MAX_TRANSPORT_BYTES)
        try:
            canonical = str(parse_ip(self.host))
        except ValueError as e:
            raise Malformed("a node's address needs an IP address literal") from e
        if canonical != self.host:
            raise Malformed("an IP address must be written in its canonical form")
        if not 1 <= self.port <= 65535:
            raise Malformed(f"port {self.port} is not between 1 and 65535")
        if len(self.parameters) > MAX_PARAMETERS:
            raise Malformed(f"an address has at most {MAX_PARAMETERS} parameters")
        for key, value in self.parameters:
            _check_name(key, "a parameter's name", MAX_KEY_BYTES)
            text_untrusted(value.encode("utf-8", "replace"), "a parameter's value", MAX_VALUE_BYTES)
        sorted_unique([key for key, _ in self.parameters], "parameters")

    @property
    def ip(self) -> IPAddress:
        return ipaddress.ip_address(self.host)

    def encode(self) -> bytes:
        ip = self.ip
        head = lv8(self.transport.encode()) + u8(ip.version) + ip.packed + u16(self.port)
        pairs = b"".join(lv8(key.encode()) + lv16(value.encode()) for key, value in self.parameters)
        return head + u8(len(self.parameters)) + pairs

    @classmethod
    def read_untrusted(cls, reader: Reader) -> Self:
        """Takes one address off `reader`."""
        transport = text_untrusted(reader.lv8(), "a transport's name", MAX_TRANSPORT_BYTES)
        host = _read_ip(reader)
        port, count = reader.u16(), reader.u8()
        pairs = [_read_parameter(reader) for _ in range(min(count, MAX_PARAMETERS + 1))]
        return cls(transport, host, port, tuple(pairs))

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `transport://host:port?key=value&...`.

        Raises:
            ValueError: it is not of that form.
            Malformed: a part is out of its range.
        """
        transport, _, place = text.partition("://")  # no URL's scheme has the underscore of meek_lite
        url = urlsplit(f"//{place}")
        if not transport or url.hostname is None or url.port is None or url.path or url.fragment or url.username:
            raise ValueError("write it as transport://host:port, for example tcp://192.0.2.1:9001")
        pairs = sorted(parse_qsl(url.query, keep_blank_values=True, strict_parsing=bool(url.query)))
        return cls(transport.lower(), str(parse_ip(url.hostname)), url.port, tuple(pairs))

    def text(self) -> str:
        """The form that `parse` reads."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        query = "&".join(f"{key}={quote(value, safe='')}" for key, value in self.parameters)
        return f"{self.transport}://{host}:{self.port}" + (f"?{query}" if query else "")

    def __repr__(self) -> str:
        return f"NodeAddress({self.transport}://[scrubbed])"


def encode_addresses(addresses: Sequence[NodeAddress]) -> bytes:
    """count 1 | addresses, in the order of preference of their node."""
    return u8(len(addresses)) + b"".join(address.encode() for address in addresses)


def read_addresses_untrusted(reader: Reader) -> tuple[NodeAddress, ...]:
    """Takes a counted list off `reader`; repeats are refused."""
    count = reader.u8()
    if count > MAX_ADDRESSES:
        raise Malformed(f"a node has at most {MAX_ADDRESSES} addresses, not {count}")
    addresses = tuple(NodeAddress.read_untrusted(reader) for _ in range(count))
    if len(set(addresses)) != count:
        raise Malformed("an address is listed twice")
    check_size(addresses)
    return addresses


def check_size(addresses: Sequence[NodeAddress]) -> None:
    """Returns if a document can carry these addresses of one node.

    Raises:
        Malformed: they are too many, or too long together.
    """
    if len(addresses) > MAX_ADDRESSES:
        raise Malformed(f"a node has at most {MAX_ADDRESSES} addresses, not {len(addresses)}")
    if (size := len(encode_addresses(addresses))) > MAX_ADDRESSES_BYTES:
        raise Malformed(f"a node's addresses have {size} bytes together, at most {MAX_ADDRESSES_BYTES} are allowed")


def _read_ip(reader: Reader) -> str:
    family = reader.u8()
    if family == 4:
        return str(ipaddress.IPv4Address(reader.take(4)))
    if family == 6:
        return str(ipaddress.IPv6Address(reader.take(16)))
    raise Malformed(f"unknown address family {family}")


def _read_parameter(reader: Reader) -> tuple[str, str]:
    key = text_untrusted(reader.lv8(), "a parameter's name", MAX_KEY_BYTES)
    return key, text_untrusted(reader.lv16(), "a parameter's value", MAX_VALUE_BYTES)


def _check_name(name: str, what: str, limit: int) -> None:
    if len(name) > limit or not _NAME.fullmatch(name):
        raise Malformed(f"{what} is 1 to {limit} of a-z, 0-9 and _, and begins with a letter")
