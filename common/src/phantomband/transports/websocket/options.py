"""Parameters of a listening address, and the secret that lasts.

    websocket://0.0.0.0:443?site=/var/www/site&cert=/etc/.../fullchain.pem&key=/etc/.../privkey.pem&host=www.example.org
    websocket://127.0.0.1:8443?plain=yes&forwarded=yes&site=http://127.0.0.1:8080

`websocket.secret` in the gateway's folder holds two lines: the secret path, and the name in our own certificate.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from phantomband.core.errors import Malformed, UserError
from phantomband.transports import kept
from phantomband.transports.tls.identity import hostname
from phantomband.transports.websocket.backend import Origin

RandomSource = Callable[[int], bytes]

PATH_PARAMETER, SNI_PARAMETER, HOST_PARAMETER = "path", "sni", "host"
"""What is published: the secret path, the name for TLS and, where it is another, for HTTP."""

SECRET_FILE = "websocket.secret"  # noqa: S105  (a file's name)
SECRET_BYTES = 16
"""Of randomness in the path: 22 characters."""

_PATH = re.compile(r"/[A-Za-z0-9._~/-]{1,255}")
_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}))*")
_KNOWN = ("site", "cert", "key", "plain", "forwarded", PATH_PARAMETER, HOST_PARAMETER, SNI_PARAMETER)


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
    def parse(cls, options: Mapping[str, str], transport: str = "websocket", known: Sequence[str] = _KNOWN) -> Options:
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


@dataclass(frozen=True, slots=True)
class Secret:
    """What clients need. Public towards them and secret towards everyone else."""

    path: str
    name: str


def secret_for(folder: Path | None, options: Mapping[str, str], random: RandomSource) -> Secret:
    """The secret in `folder`, or one for this run only; parts that `options` names are those.

    Raises:
        UserError: the file or a part cannot be used.
    """
    made = f"/{base64.urlsafe_b64encode(random(SECRET_BYTES)).decode().rstrip('=')}\n{hostname(random)}\n".encode()
    text = kept.load_or_create(folder / SECRET_FILE, lambda: made) if folder is not None else made
    lines = text.decode("ascii", "replace").split("\n")
    parameters = {PATH_PARAMETER: lines[0], SNI_PARAMETER: lines[1] if len(lines) > 1 else ""}
    if HOST_PARAMETER in options:
        parameters[SNI_PARAMETER] = options[HOST_PARAMETER]
    parameters.update((n, options[n]) for n in (PATH_PARAMETER, SNI_PARAMETER) if n in options)
    try:
        target = Target.parse_untrusted(parameters)
    except Malformed as e:
        raise UserError(f"websocket: {e}. Mend the address, or {folder}/{SECRET_FILE}") from None
    return Secret(target.path, target.sni)


@dataclass(frozen=True, slots=True)
class Target:
    """What to ask a server for, from its address."""

    path: str
    sni: str
    """May be empty."""
    host: str

    @classmethod
    def parse_untrusted(cls, parameters: Mapping[str, str]) -> Target:
        """Raises: Malformed: a parameter is missing, or cannot be sent as it is."""
        path = parameters.get(PATH_PARAMETER, "")
        sni = parameters.get(SNI_PARAMETER, "")
        host = parameters.get(HOST_PARAMETER, "")
        if not _PATH.fullmatch(path):
            raise Malformed("path= is missing, or no path of letters, digits and ._~/-")
        if not all(name == "" or _NAME.fullmatch(name) for name in (sni, host)):
            raise Malformed("sni= and host= are names such as www.example.org")
        return cls(path, sni, host)


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
