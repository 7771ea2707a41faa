"""Parameters of a listening address whose port is a web site.

site=/var/www/site  cert=/etc/.../fullchain.pem  key=/etc/.../privkey.pem
plain=yes  forwarded=yes  site=http://127.0.0.1:8080
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from phantomband.core.errors import UserError
from phantomband.transports.website.backend import Origin


@dataclass(frozen=True, slots=True)
class Options:
    """What a listening address asks for."""

    site: Path | Origin | None = None
    certificate: Path | None = None
    key: Path | None = None
    plain: bool = False
    """No TLS: a reverse proxy in front ends it."""
    forwarded: bool = False
    """Whether that proxy says who the peer is."""

    @classmethod
    def parse(cls, options: Mapping[str, str], transport: str, known: Sequence[str]) -> Options:
        """Args: transport, known: whose parameters these are, and which it has.

        Raises:
            UserError: says which parameter is wrong.
        """
        form = f"Write {transport}://IP:PORT?site=/var/www/site"
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise UserError(f"{transport} has no parameter {unknown[0]!r}; it has {', '.join(known)}. {form}")
        try:
            plain, forwarded = _switch(options, "plain"), _switch(options, "forwarded")
            if ("cert" in options) != ("key" in options):
                raise _Wrong("cert and key belong together. Give both files, or none")
            if plain and "cert" in options:
                raise _Wrong("with plain=yes there is no TLS here. Remove cert and key, or plain")
            if forwarded and not plain:
                raise _Wrong("forwarded=yes is for plain=yes behind a reverse proxy only. Remove it")
            certificate, key = (_file(options, name) for name in ("cert", "key"))
            return cls(_site(options.get("site")), certificate, key, plain, forwarded)
        except _Wrong as e:
            raise UserError(f"{transport}: {e}") from None


class _Wrong(Exception):
    """What is wrong with a parameter, and what to do."""


def _switch(options: Mapping[str, str], name: str) -> bool:
    value = options.get(name, "no")
    if value not in ("yes", "no"):
        raise _Wrong(f"{name} is yes or no, not {value!r}. Write {name}=yes, or leave it away")
    return value == "yes"


def _file(options: Mapping[str, str], name: str) -> Path | None:
    if name not in options:
        return None
    path = Path(options[name])
    if not path.is_absolute() or not path.is_file():
        raise _Wrong(f"{name}={path}: there is no such file. Give its whole path")
    return path


def _site(value: str | None) -> Path | Origin | None:
    if value is None:
        return None
    if value.startswith("/"):
        if not Path(value).is_dir():
            raise _Wrong(f"site={value}: there is no such folder. Make it, or give another")
        return Path(value)
    try:
        return Origin.parse(value)
    except ValueError as e:
        raise _Wrong(f"site={value}: {e}, or the whole path of a folder") from None
