"""The path at which a WebSocket is the tunnel, and the name that a server goes by.

`websocket.secret` in the gateway's folder holds two lines: the secret path, and the name in our own certificate.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from phantomband.core.errors import Malformed, UserError
from phantomband.transports import kept
from phantomband.transports.tls_layer.identity import hostname

RandomSource = Callable[[int], bytes]

PATH_PARAMETER, SNI_PARAMETER, HOST_PARAMETER = "path", "sni", "host"
"""What is published: the secret path, the name for TLS and, where it is another, for HTTP."""

SECRET_FILE = "websocket.secret"  # noqa: S105  (a file's name)
SECRET_BYTES = 16
"""Of randomness in the path: 22 characters."""

_PATH = re.compile(r"/[A-Za-z0-9._~/-]{1,255}")
_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}))*")


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
