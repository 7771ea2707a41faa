"""What a site and a connection say to each other: requests, and answers without the form of one version of HTTP.

request -> Site.answer(request, out) -> out.head(answer), out.send(part) ..., out.done(whole)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from phantomband.transports.website.http import Request

Lines = tuple[tuple[str, str], ...]
"""Header lines, names as in HTTP/1.1."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer's head, without Server, Date and Connection: those are the connection's to add."""

    status: str
    """Code and words; HTTP/3 sends the code alone."""
    lines: Lines = ()
    """In front of Connection, as nginx has them."""
    more: Lines = ()
    """Behind it."""
    ends: bool = False
    """Whether a connection of HTTP/1 ends with it."""

    @property
    def length(self) -> int | None:
        """Bytes of the body, if it is said."""
        for name, value in self.lines:
            if name.lower() == "content-length" and value.isascii() and value.isdecimal() and len(value) < 19:
                return int(value)
        return None


class Out(Protocol):
    """Where an answer goes."""

    @property
    def congested(self) -> bool: ...

    def head(self, answer: Answer) -> None:
        """Once, first."""

    def send(self, data: bytes) -> None:
        """A part of the body. None at all where the request was HEAD: that is the site's to know."""

    def done(self, whole: bool) -> None:
        """The answer is at its end. Args: whole: whether the body is as long as its head says."""


class Exchange(Protocol):
    """An answer that is not whole yet."""

    def writable(self) -> None:
        """The connection is not congested any more."""

    def cancel(self) -> None:
        """The connection is gone."""


class Site(Protocol):
    """Answers requests."""

    def answer(self, request: Request, out: Out) -> Exchange | None:
        """Returns: nothing when `out` was done within the call."""
