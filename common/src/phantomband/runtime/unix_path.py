"""Paths of Unix sockets where a text is wanted: any bytes that a file system takes, so also `%`, `#`, `?` and no UTF-8.

gRPC reads `unix:PATH` as a URI (RFC 3986): it cuts `?` and `#` off and decodes percent signs. Unescaped, a socket is
bound somewhere else, where nobody guards it. Quoted, it is bound where we say. A comma is what gRPC cuts lists at,
quoted or not: such a path is refused.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes

from phantomband.core.errors import UserError

MAX_BYTES = 107
"""sun_path of unix(7), without its final zero."""


def quoted(path: Path) -> str:
    """In ASCII."""
    return quote_from_bytes(os.fsencode(path))


def unquoted(text: str) -> str:
    """A path as Python's own functions take it."""
    return os.fsdecode(unquote_to_bytes(text))


def target(path: Path) -> str:
    """What gRPC binds to or connects to for this socket.

    Raises:
        UserError: it is too long, or gRPC cannot have it.
    """
    raw = os.fsencode(path)
    if len(raw) > MAX_BYTES:
        raise UserError(f"the path of the Unix socket {path} is too long; use a shorter run_dir")
    if b"," in raw:
        raise UserError(f"the path of the Unix socket {path} has a comma, which gRPC cannot take; use another run_dir")
    return f"unix:{quoted(path)}"
