"""What a managed program says, line by line: on its standard output (pt-spec, section 3.3), errors of PT 2.x programs
on standard error (Dispatcher IPC Interface, section 1.2)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from phantomband.core.errors import Malformed
from phantomband.transports.managed.arguments import NAME, split_server_untrusted

MAX_LINE = 8192
"""Bytes; longer lines are passed over. Our choice: real ones have a few hundred."""


@dataclass(frozen=True, slots=True)
class Version:
    """VERSION: what both use."""

    number: str


@dataclass(frozen=True, slots=True)
class Failed:
    """VERSION-ERROR, ENV-ERROR, PROXY-ERROR: the program ends."""

    keyword: str
    text: str


@dataclass(frozen=True, slots=True)
class ProxyDone:
    """PROXY DONE: the upstream proxy is used."""


@dataclass(frozen=True, slots=True)
class Method:
    """CMETHOD or SMETHOD: a transport stands; where it listens, and what its clients need."""

    transport: str
    host: str
    port: int
    protocol: str = ""
    """socks4 or socks5; of a client."""
    arguments: Mapping[str, str] | None = None
    """Of a server."""


@dataclass(frozen=True, slots=True)
class MethodFailed:
    """CMETHOD-ERROR or SMETHOD-ERROR: this transport does not."""

    transport: str
    text: str


@dataclass(frozen=True, slots=True)
class MethodsDone:
    """CMETHODS DONE or SMETHODS DONE: all is said."""

    keyword: str


@dataclass(frozen=True, slots=True)
class Log:
    """LOG: for the parent's log. `severity` is error, warning, notice, info or debug."""

    severity: str
    text: str


@dataclass(frozen=True, slots=True)
class Status:
    """STATUS: how a transport fares, or the program itself."""

    transport: str
    """Empty where it says none, as in `STATUS TYPE=version IMPLEMENTATION="lyrebird" VERSION="0.6"`."""
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Unknown:
    """Any other line, which "the parent process MUST ignore"."""


Message = Version | Failed | ProxyDone | Method | MethodFailed | MethodsDone | Log | Status | Unknown

SEVERITIES = ("error", "warning", "notice", "info", "debug")

SHORT_LOG = {"ERROR": "error", "WARN": "warning", "INFO": "info", "DEBUG": "debug"}
"""PT 2.x: `LOG WARN text`."""

_WORD = re.compile(r'([A-Za-z0-9_.-]+)=("(?:[^"\\]|\\.)*"|[^ "]*)(?: +|$)')


def parse_untrusted(line: bytes) -> Message:
    """One line, without its end.

    Raises:
        Malformed: a keyword of the protocol, and behind it something else than belongs there.
    """
    if len(line) > MAX_LINE or b"\0" in line:
        raise Malformed("a line of the program is too long, or has a NUL")
    text = line.decode("utf-8", "replace").rstrip("\r")
    keyword, _, rest = text.partition(" ")
    parse = _PARSERS.get(keyword)
    return parse(keyword, rest) if parse is not None else Unknown()


def _version(keyword: str, rest: str) -> Message:
    if not rest or not rest.isascii() or not rest.isprintable() or " " in rest:
        raise Malformed("VERSION without a version")
    return Version(rest)


def _failed(keyword: str, rest: str) -> Message:
    return Failed(keyword, rest)


def _proxy(keyword: str, rest: str) -> Message:
    if rest != "DONE":
        raise Malformed("PROXY is followed by DONE")
    return ProxyDone()


def _done(keyword: str, rest: str) -> Message:
    if rest != "DONE":
        raise Malformed(f"{keyword} is followed by DONE")
    return MethodsDone(keyword)


def _client_method(keyword: str, rest: str) -> Message:
    words = rest.split(" ")
    if len(words) < 3 or words[1] not in ("socks4", "socks5"):
        raise Malformed("CMETHOD is followed by a transport, socks4 or socks5, and IP:PORT")
    return Method(_name(words[0]), *endpoint_untrusted(words[2]), protocol=words[1])


def _server_method(keyword: str, rest: str) -> Message:
    words = rest.split(" ")
    if len(words) < 2:
        raise Malformed("SMETHOD is followed by a transport and IP:PORT")
    listed = next((word[5:] for word in words[2:] if word.startswith("ARGS:")), "")
    host, port = endpoint_untrusted(words[1])
    return Method(_name(words[0]), host, port, arguments=split_server_untrusted(listed))


def _method_failed(keyword: str, rest: str) -> Message:
    name, _, text = rest.partition(" ")
    return MethodFailed(_name(name), text)


def _log(keyword: str, rest: str) -> Message:
    level, _, text = rest.partition(" ")
    if level in SHORT_LOG:
        return Log(SHORT_LOG[level], text)
    values = _values(rest)
    if values.get("SEVERITY", "").lower() not in SEVERITIES or "MESSAGE" not in values:
        raise Malformed("LOG needs SEVERITY and MESSAGE")
    return Log(values["SEVERITY"].lower(), values["MESSAGE"])


def _status(keyword: str, rest: str) -> Message:
    values = _values(rest)
    return Status(values.pop("TRANSPORT", ""), values)


def _values(text: str) -> dict[str, str]:
    """NAME=VALUE words; a value may be a quoted string with backslashes (control-spec, section 2.1.1)."""
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        match = _WORD.match(text, at)
        if match is None:
            raise Malformed("a message has words that are not of the form NAME=VALUE")
        name, value = match.groups()
        found[name] = re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
        at = match.end()
    return found


def endpoint_untrusted(text: str) -> tuple[str, int]:
    """IP literal and port of `192.0.2.1:80` or `[2001:db8::1]:80`. Raises: Malformed."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        ip = ipaddress.ip_address(host[1:-1] if bracketed else host)
    except ValueError:
        raise Malformed("an endpoint is an IP address and a port") from None
    good = colon and port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535
    if not good or (ip.version == 6) != bracketed or "%" in host:
        raise Malformed("an endpoint is an IP address and a port")
    return str(ip), int(port)


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise Malformed("a transport's name has letters, digits and _ only")
    return text


_PARSERS: dict[str, Callable[[str, str], Message]] = {
    "VERSION": _version,
    "VERSION-ERROR": _failed,
    "ENV-ERROR": _failed,
    "PROXY": _proxy,
    "PROXY-ERROR": _failed,
    "CMETHOD": _client_method,
    "CMETHOD-ERROR": _method_failed,
    "CMETHODS": _done,
    "SMETHOD": _server_method,
    "SMETHOD-ERROR": _method_failed,
    "SMETHODS": _done,
    "LOG": _log,
    "STATUS": _status,
}
