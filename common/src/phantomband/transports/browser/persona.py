"""Personas: what a browser of one version on one platform says of itself. Data files in `personas/`, each with a date.

One is chosen for a session, which is a process; the next session takes another. What a network sees of a persona is the
TLS hello, and that is the same for Chrome on every platform; headers are seen by who ends the TLS connection.
"""

from __future__ import annotations

import datetime
import tomllib
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from string import Formatter
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from phantomband.core.errors import UserError

RandomSource = Callable[[int], bytes]

OUTDATED_DAYS = 180
"""A persona older than this warns: browsers have a new version every four weeks. Our choice."""

LAST_FILE = "persona.last"
"""In the client's data directory: the name of the last session's persona."""

FIELDS = {"host", "origin", "key", "user_agent", "languages"}
"""What may stand in braces in a header's value."""

HeaderLine = tuple[str, str]


class Headers(BaseModel):
    """Header lines, in the order and case in which the browser sends them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    navigation: tuple[HeaderLine, ...] = Field(min_length=1)
    websocket: tuple[HeaderLine, ...] = Field(min_length=1)

    @field_validator("navigation", "websocket")
    @classmethod
    def _clean(cls, lines: tuple[HeaderLine, ...]) -> tuple[HeaderLine, ...]:
        for name, value in lines:
            if not name.replace("-", "").isalnum() or not (name + value).isascii() or not value.isprintable():
                raise ValueError(f"header {name!r} has characters that headers cannot have")
            unknown = {field for _, field, _, _ in Formatter().parse(value) if field} - FIELDS
            if unknown:
                raise ValueError(f"header {name!r}: {{{unknown.pop()}}} is unknown; use one of {sorted(FIELDS)}")
        return lines


class Http2(BaseModel):
    """How a connection and a request of HTTP/2 begin (RFC 9113)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    settings: tuple[tuple[int, int], ...] = Field(min_length=1)
    """Numbers and values, in their order."""
    window_update: int = Field(gt=0)
    """Bytes that the window of the whole connection is raised by at once."""
    pseudo_headers: tuple[str, ...] = Field(min_length=4, max_length=4)
    priority: str = Field(pattern=r"[0-9a-f]{10}")
    """In the HEADERS frame of a page's request."""
    more: tuple[HeaderLine, ...] = ()
    """Header lines that HTTP/1.1 does not have."""


class Persona(BaseModel):
    """One persona; its fields are those of its file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """The file's, without `.toml`."""
    date: datetime.date
    """When it was taken from a real browser."""
    browser: str
    version: int = Field(gt=0)
    platform: str
    languages: str
    """Value of Accept-Language."""
    tls: str
    """Name of the TLS profile."""
    share: float = Field(gt=0)
    """Weight among all personas."""
    user_agent: str
    headers: Headers
    http2: Http2

    @model_validator(mode="after")
    def _complete(self) -> Persona:
        wanted = {"host", "connection", "upgrade", "origin", "sec-websocket-version", "sec-websocket-key"}
        missing = wanted - {name.lower() for name, _ in self.headers.websocket}
        if missing:
            raise ValueError(f"headers.websocket lacks {', '.join(sorted(missing))}")
        return self

    def navigation(self, host: str) -> list[HeaderLine]:
        """What goes behind `GET / HTTP/1.1` when a page is opened by hand."""
        return self._filled(self.headers.navigation, host, "")

    def navigation_http2(self, host: str, path: str) -> list[HeaderLine]:
        """The same over HTTP/2, pseudo headers first."""
        pseudo = {":method": "GET", ":authority": host, ":scheme": "https", ":path": path}
        lines = [(name.lower(), value) for name, value in self.navigation(host)]
        kept = [line for line in lines if line[0] not in ("host", "connection")]
        return [*((name, pseudo[name]) for name in self.http2.pseudo_headers), *kept, *self.http2.more]

    def websocket(self, host: str, key: str) -> list[HeaderLine]:
        """What goes behind the request line of a WebSocket's upgrade. Args: key: of the handshake, 24 characters."""
        return self._filled(self.headers.websocket, host, key)

    def _filled(self, lines: Sequence[HeaderLine], host: str, key: str) -> list[HeaderLine]:
        values = {
            "host": host, "origin": f"https://{host}", "key": key,
            "user_agent": self.user_agent, "languages": self.languages,
        }  # fmt: skip
        return [(name, value.format(**values)) for name, value in lines]

    def age_days(self, today: datetime.date) -> int:
        return (today - self.date).days

    def warning(self, today: datetime.date) -> str | None:
        """What to tell the user if the persona is outdated."""
        age = self.age_days(today)
        if age <= OUTDATED_DAYS:
            return None
        return f"the browser persona {self.name} is {age} days old and stands out by now. Install a newer release"


def parse(name: str, text: str) -> Persona:
    """A persona from its file.

    Raises:
        UserError: says what is wrong in which file.
    """
    try:
        data: dict[str, Any] = tomllib.loads(text)
        return Persona.model_validate({**data, "name": name})
    except (tomllib.TOMLDecodeError, ValidationError) as e:
        why = e.errors()[0]["msg"] if isinstance(e, ValidationError) else str(e)
        raise UserError(f"persona {name}.toml: {why}. Mend the file, or install the release again") from None


def load_all() -> tuple[Persona, ...]:
    """Every persona of this release, by name. Raises: UserError: a file cannot be used."""
    folder = resources.files("phantomband.transports.browser") / "personas"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".toml")), key=lambda f: f.name)
    return tuple(parse(f.name.removesuffix(".toml"), f.read_text()) for f in files)


def choose(personas: Sequence[Persona], random: RandomSource, but: str = "") -> Persona:
    """One by weight. Args: random: 8 bytes are taken; but: a name not to take, if there are others."""
    candidates = [p for p in personas if p.name != but] or list(personas)
    at = int.from_bytes(random(8), "big") / 2**64 * sum(p.share for p in candidates)
    for persona in candidates:
        at -= persona.share
        if at < 0:
            return persona
    return candidates[-1]


def for_session(folder: Path, random: RandomSource) -> Persona:
    """The persona of a session that begins now: not that of the last one, whose name is in `folder`."""
    file = folder / LAST_FILE
    try:
        last = file.read_text().strip()
    except (OSError, ValueError):
        last = ""
    persona = choose(load_all(), random, but=last)
    part = file.with_name(f"{LAST_FILE}.part")
    try:
        part.write_text(persona.name + "\n")
        part.rename(file)
    except OSError:
        part.unlink(missing_ok=True)  # a full disk: the next session may have the same
    return persona


def as_request(method_line: str, lines: Sequence[HeaderLine]) -> bytes:
    """An HTTP/1.1 request's head."""
    return "\r\n".join((method_line, *(f"{name}: {value}" for name, value in lines), "", "")).encode("ascii")
