"""What tells a client from a visitor of the web site on the same port: sixteen secret bytes, the first inside TLS or
on QUIC's stream 0.

`tls.secret` or `quic.secret` in the gateway's folder holds two lines: the secret, and the name in our own certificate.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from phantomband.core.errors import Malformed, UserError
from phantomband.transports import kept
from phantomband.transports.base import Buffer, Receiver
from phantomband.transports.layered import Lower
from phantomband.transports.tls_layer.identity import RandomSource, hostname
from phantomband.transports.website.server import HEAD_SECONDS

KNOCK_PARAMETER, SNI_PARAMETER = "knock", "sni"
"""What is published: the secret, base64url without padding, and the name that the server's certificate is for."""

KNOCK_BYTES = 16


@dataclass(frozen=True, slots=True)
class Secret:
    """What clients need. Public towards them and secret towards everyone else."""

    knock: bytes
    name: str

    @property
    def parameters(self) -> Mapping[str, str]:
        return {KNOCK_PARAMETER: _text(self.knock), SNI_PARAMETER: self.name}


def secret_file(transport: str) -> str:
    """Name of the file with a transport's secret."""
    return f"{transport}.secret"


def secret_for(transport: str, folder: Path | None, options: Mapping[str, str], random: RandomSource) -> Secret:
    """The secret in `folder`, or one for this run only; parts that `options` names are those.

    Args:
        transport: whose secret it is.

    Raises:
        UserError: the file or a part cannot be used.
    """
    made = f"{_text(random(KNOCK_BYTES))}\n{hostname(random)}\n".encode()
    text = kept.load_or_create(folder / secret_file(transport), lambda: made) if folder is not None else made
    lines = text.decode("ascii", "replace").split("\n")
    try:
        knock = knock_untrusted({KNOCK_PARAMETER: options.get(KNOCK_PARAMETER, lines[0])})
    except Malformed as e:
        raise UserError(f"{transport}: {e}. Mend the address, or remove {folder}/{secret_file(transport)}") from None
    return Secret(knock, options.get(SNI_PARAMETER) or (lines[1] if len(lines) > 1 else "") or hostname(random))


def knock_untrusted(parameters: Mapping[str, str]) -> bytes:
    """Raises: Malformed: there is none, or it is none."""
    try:
        knock = base64.b64decode(f"{parameters.get(KNOCK_PARAMETER, '')}==", altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        knock = b""
    if len(knock) != KNOCK_BYTES:
        raise Malformed("knock= is missing, or not 22 letters, digits, - and _")
    return knock


def _text(knock: bytes) -> str:
    return base64.urlsafe_b64encode(knock).decode().rstrip("=")


def opens_untrusted(data: Buffer, knock: bytes) -> bool:
    """Whether `data`, the first bytes that came together on a connection, begins with `knock`.

    Fewer bytes than the knock has do not open, whatever they are, and nobody waits for the rest: silence after a
    beginning of the secret, where a web server answers, would give it away byte by byte. Clients send it as a whole.
    Takes a time that does not depend on where they differ.
    """
    return hmac.compare_digest(bytes(data[:KNOCK_BYTES]), knock)


class Doorkeeper:
    """The receiver of a TLS connection until its first record has told who it is.

    Args:
        tunnel, site: make the receiver of a client, and of a visitor; the latter gets every byte.
    """

    def __init__(
        self, lower: Lower, knock: bytes, tunnel: Callable[[], Receiver], site: Callable[[], Receiver]
    ) -> None:
        self._knock, self._tunnel, self._site = knock, tunnel, site
        self._receiver: Receiver | None = None
        self._timer = asyncio.get_running_loop().call_later(HEAD_SECONDS, lower.close)

    def received(self, data: Buffer) -> None:
        if self._receiver is not None:
            self._receiver.received(data)
        elif opens_untrusted(data, self._knock):
            self._become(self._tunnel(), data[KNOCK_BYTES:])
        else:
            self._become(self._site(), data)

    def _become(self, receiver: Receiver, data: Buffer) -> None:
        self._timer.cancel()
        self._receiver = receiver
        if data:
            receiver.received(data)

    def writable(self) -> None:
        if self._receiver is not None:
            self._receiver.writable()

    def closed(self, error: Exception | None) -> None:
        self._timer.cancel()
        if self._receiver is not None:
            self._receiver.closed(error)
