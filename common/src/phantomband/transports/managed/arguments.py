"""Arguments of pluggable transports in the three forms that pt-spec gives them, and by our own names.

    client, SOCKS user name and password   key=value;key=value        \\ = ; escaped        (section 3.5)
    server, in SMETHOD                     key=value,key=value        \\ = , escaped        (section 3.3.3)
    server, TOR_PT_SERVER_TRANSPORT_OPTIONS  name:key=value;name:...  \\ : ; = escaped      (section 3.2.3)

Names of parameters in our addresses have underscores where the programs write hyphens: `iat_mode` is `iat-mode`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from phantomband.core.errors import Malformed

MAX_ARGUMENTS = 32
"""Of one connection or transport. Our choice."""

SOCKS_FIELD_BYTES = 255
"""Longest user name and longest password (RFC 1929, section 2)."""

NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)
"""Of a transport (pt-spec, section 3.1)."""


def join_client(arguments: Mapping[str, str]) -> str:
    """As SOCKS carries them."""
    return ";".join(f"{_escape(key, '=;')}={_escape(value, '=;')}" for key, value in arguments.items())


def split_client_untrusted(text: str) -> dict[str, str]:
    """From what SOCKS carried. Raises: Malformed."""
    return _pairs_untrusted(text, ";")


def join_server(arguments: Mapping[str, str]) -> str:
    """As SMETHOD has them behind `ARGS:`."""
    return ",".join(f"{_escape(key, '=,')}={_escape(value, '=,')}" for key, value in arguments.items())


def split_server_untrusted(text: str) -> dict[str, str]:
    """From what stands behind `ARGS:`.

    An argument may stand there several times, as snowflake's server has a `hostname` for each of its names. The first
    counts, as in goptlib.

    Raises:
        Malformed.
    """
    return _pairs_untrusted(text, ",", repeated=True)


def join_options(transport: str, options: Mapping[str, str]) -> str:
    """For TOR_PT_SERVER_TRANSPORT_OPTIONS."""
    return ";".join(f"{transport}:{_escape(k, '=:;')}={_escape(v, ':;')}" for k, v in options.items())


def split_options_untrusted(text: str) -> dict[str, dict[str, str]]:
    """TOR_PT_SERVER_TRANSPORT_OPTIONS, by transport. Raises: Malformed."""
    found: dict[str, dict[str, str]] = {}
    at = count = 0
    while at < len(text):
        transport, at = _take_untrusted(text, at, ":;=")
        key, after = _take_untrusted(text, at + 1, "=;") if text[at : at + 1] == ":" else ("", at)
        if not transport or not key or text[after : after + 1] != "=":
            raise Malformed("transport options have the form name:key=value;name:key=value")
        value, at = _take_untrusted(text, after + 1, ";")
        at, count = at + 1, count + 1
        if key in found.setdefault(transport, {}) or count > MAX_ARGUMENTS:
            raise Malformed("a transport option is given twice, or there are too many")
        found[transport][key] = value
    return found


def socks_credentials(arguments: Mapping[str, str]) -> tuple[bytes, bytes]:
    """User name and password that carry `arguments`.

    "If the encoded argument list is less than 255 bytes in length [...] the PASSWD field must contain a single NUL
    character."

    Raises:
        Malformed: they are longer than both together, 510 bytes.
    """
    line = join_client(arguments).encode()
    if len(line) > 2 * SOCKS_FIELD_BYTES:
        raise Malformed(f"a transport's parameters have {len(line)} bytes, {2 * SOCKS_FIELD_BYTES} is the most")
    return line[:SOCKS_FIELD_BYTES], line[SOCKS_FIELD_BYTES:] or b"\0"


def of_credentials_untrusted(user: bytes, password: bytes) -> dict[str, str]:
    """The arguments in a user name and a password. Raises: Malformed."""
    line = user + (b"" if password == b"\0" else password)
    try:
        return split_client_untrusted(line.decode())
    except UnicodeDecodeError:
        raise Malformed("a transport's parameters are not UTF-8") from None


def to_program(parameters: Mapping[str, str]) -> dict[str, str]:
    """An address's parameters by the names that programs use."""
    return {name.replace("_", "-"): value for name, value in parameters.items()}


def from_program_untrusted(arguments: Mapping[str, str]) -> dict[str, str]:
    """The other way.

    Raises:
        Malformed: a name has an underscore or a capital, and so could not be given back.
    """
    for name in arguments:
        if not re.fullmatch(r"[a-z][a-z0-9-]*", name, re.ASCII):
            raise Malformed("a parameter's name has more than a-z, 0-9 and -, which addresses cannot carry")
    return {name.replace("-", "_"): value for name, value in arguments.items()}


def _pairs_untrusted(text: str, between: str, *, repeated: bool = False) -> dict[str, str]:
    found: dict[str, str] = {}
    at = count = 0
    while at < len(text):
        key, at = _take_untrusted(text, at, "=" + between)
        if not key or text[at : at + 1] != "=":
            raise Malformed("arguments have the form key=value")
        value, at = _take_untrusted(text, at + 1, between)
        at, count = at + 1, count + 1
        if (key in found and not repeated) or count > MAX_ARGUMENTS:
            raise Malformed("an argument is given twice, or there are too many")
        found.setdefault(key, value)
    return found


def _take_untrusted(text: str, at: int, stops: str) -> tuple[str, int]:
    """What stands before the next of `stops` without a backslash, and where that is (or the end)."""
    out = []
    while at < len(text) and text[at] not in stops:
        if text[at] == "\\":
            at += 1
            if at == len(text):
                raise Malformed("a backslash stands at the end")
        out.append(text[at])
        at += 1
    return "".join(out), at


def _escape(text: str, special: str) -> str:
    return "".join(f"\\{c}" if c in special or c == "\\" else c for c in text)
