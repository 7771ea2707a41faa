"""Messages between a client and one hop of its circuit, one in a cell.

    command 1 | stream 2 | length 2 | data | zeros up to the room of the hop

Stream 0 names the circuit. DATA at the third hop carries up to 1,987 bytes.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import IntEnum

from phantomband.core.errors import Malformed
from phantomband.core.wire import Reader, lv8, u8, u16, u32

HEADER_BYTES = 5
MAX_NAME_BYTES = 253
"""Longest DNS name in text form (RFC 1035, section 2.3.4)."""

TAG_BYTES = 16


class Message(IntEnum):
    """Message commands."""

    BEGIN = 1
    CONNECTED = 2
    DATA = 3
    FIN = 4
    END = 5
    RESOLVE = 6
    RESOLVED = 7
    CREDIT = 8
    EXTEND = 9
    EXTENDED = 10
    DROP = 11
    PACE = 12
    PACED = 13
    LOOP = 14
    LOOPED = 15


class EndReason(IntEnum):
    """Why a stream ended. Told to the client only, through its own layers."""

    DONE = 0
    RESET = 1
    REFUSED = 2
    UNREACHABLE = 3
    TIMEOUT = 4
    RESOLVE_FAILED = 5
    POLICY = 6
    RESOURCE = 7
    INTERNAL = 8
    CIRCUIT_GONE = 9
    """Never on the wire: the circuit died under the stream."""


class Kind(IntEnum):
    """What a target or an answer is."""

    IPV4 = 4
    IPV6 = 6
    NAME = 3
    ERROR = 0xF0


@dataclass(frozen=True, slots=True)
class Target:
    """Where a stream goes: an IP address literal or a name that the exit resolves, and a port.

    Its repr never shows the target: it stands in logs.
    """

    kind: Kind
    host: str
    port: int

    def __repr__(self) -> str:
        return f"Target({self.kind.name}, [scrubbed])"

    @property
    def is_name(self) -> bool:
        return self.kind is Kind.NAME


def target(host: str, port: int) -> Target:
    """A target from text: an IP address literal or a name."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return Target(Kind.NAME, host, port)
    if address.version == 4:
        return Target(Kind.IPV4, str(address), port)
    return Target(Kind.IPV6, str(address).partition("%")[0], port)  # the zone names an interface of the asker's machine


def encode(command: Message, stream: int, data: bytes = b"") -> bytes:
    """A message without its padding: 5 + len(data) bytes."""
    return u8(command) + u16(stream) + u16(len(data)) + data


def decode_untrusted(message: bytes) -> tuple[int, int, bytes]:
    """(command, stream, data) of a padded message.

    Raises:
        Malformed: the length runs over the end, or the command is unknown.
    """
    if len(message) < HEADER_BYTES:
        raise Malformed("a message ends inside its header")
    command = message[0]
    size = int.from_bytes(message[3:5], "big")
    if size > len(message) - HEADER_BYTES:
        raise Malformed("a message's length runs over its cell")
    if not Message.BEGIN <= command <= Message.LOOPED:
        raise Malformed(f"unknown message command {command}")
    return command, int.from_bytes(message[1:3], "big"), message[HEADER_BYTES : HEADER_BYTES + size]


def _encode_host(kind: Kind, host: str) -> bytes:
    if kind is Kind.NAME:
        return u8(kind) + lv8(host.encode("ascii"))
    return u8(kind) + ipaddress.ip_address(host).packed


def _decode_host(reader: Reader) -> tuple[Kind, str]:
    kind = reader.u8()
    if kind == Kind.IPV4:
        return Kind.IPV4, str(ipaddress.IPv4Address(reader.take(4)))
    if kind == Kind.IPV6:
        return Kind.IPV6, str(ipaddress.IPv6Address(reader.take(16)))
    if kind == Kind.NAME:
        return Kind.NAME, _decode_name(reader.lv8())
    raise Malformed(f"unknown kind of host {kind}")


def is_name(raw: bytes) -> bool:
    """Whether `raw` may stand where a name stands: 1 to 253 printable ASCII characters, no space."""
    return 0 < len(raw) <= MAX_NAME_BYTES and all(0x20 < c < 0x7F for c in raw)


def _decode_name(raw: bytes) -> str:
    if not is_name(raw):
        raise Malformed("a host name must be 1 to 253 printable ASCII characters")
    return raw.decode("ascii")


def encode_target(where: Target) -> bytes:
    """port 2 | kind 1 | address: 4, 16, or length 1 and name."""
    return u16(where.port) + _encode_host(where.kind, where.host)


def decode_target_untrusted(data: bytes) -> Target:
    """The target of a BEGIN or RESOLVE message.

    Raises:
        Malformed: wrong form, an empty or overlong name.
    """
    reader = Reader(data)
    port = reader.u16()
    kind, host = _decode_host(reader)
    reader.end()
    return Target(kind, host, port)


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of a RESOLVED message: an address or a name, and how long it holds in seconds."""

    kind: Kind
    value: str
    ttl: int

    def __repr__(self) -> str:
        return f"Answer({self.kind.name}, [scrubbed])"


MAX_ANSWERS = 16


def encode_answers(answers: list[Answer]) -> bytes:
    """count 1 | (ttl 4 | kind 1 | address)*, the first 16; no answer means that the name does not resolve."""
    answers = answers[:MAX_ANSWERS]
    out = [u8(len(answers))]
    for a in answers:
        out.append(u32(a.ttl) + _encode_host(a.kind, a.value))
    return b"".join(out)


def decode_answers_untrusted(data: bytes) -> list[Answer]:
    """The answers of a RESOLVED message, or the one address of a CONNECTED message.

    Raises:
        Malformed: wrong form, or over 16 answers.
    """
    reader = Reader(data)
    count = reader.u8()
    if count > MAX_ANSWERS:
        raise Malformed(f"{count} answers, at most {MAX_ANSWERS} are allowed")
    out = []
    for _ in range(count):
        ttl = reader.u32()
        kind, value = _decode_host(reader)
        out.append(Answer(kind, value, ttl))
    reader.end()
    return out


def encode_pace(rate: int) -> bytes:
    """Data of PACE and PACED: cells a second, 2 bytes; 0: as they come."""
    return u16(rate)


def decode_pace_untrusted(data: bytes) -> int:
    """The rate of a PACE or PACED message, in cells a second.

    Raises:
        Malformed: wrong length.
    """
    reader = Reader(data)
    rate = reader.u16()
    reader.end()
    return rate


def decode_reason_untrusted(data: bytes) -> EndReason:
    """The reason of an END message."""
    if len(data) != 1:
        raise Malformed("an END message has one byte of reason")
    try:
        reason = EndReason(data[0])
    except ValueError:
        raise Malformed(f"unknown end reason {data[0]}") from None
    if reason is EndReason.CIRCUIT_GONE:
        raise Malformed("CIRCUIT_GONE never goes over the wire")
    return reason
