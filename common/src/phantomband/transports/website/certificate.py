"""The certificate of a port: the operator's, or our own."""

from __future__ import annotations

import datetime
import ssl

from cryptography.hazmat.primitives import serialization

from phantomband.core.errors import UserError
from phantomband.transports.tls_layer.identity import Identity, RandomSource
from phantomband.transports.website.options import Options


class Certificate:
    """What a port shows.

    Args:
        transport: for people.
        host: the name that our own certificate is for.
        now: time of the start, in seconds since 1970.
    """

    def __init__(self, transport: str, options: Options, host: str, random: RandomSource, now: float) -> None:
        self._transport, self._options, self._host = transport, options, host
        self._random, self._now = random, now

    def load_into(self, context: ssl.SSLContext) -> None:
        """Raises: UserError: it cannot be used."""
        if self._options.certificate is None:
            self._own().load_into(context, self._random(16).hex().encode())
            return
        try:
            context.load_cert_chain(self._options.certificate, self._options.key)
        except (OSError, ssl.SSLError) as e:
            raise self.cannot_use(e.strerror or type(e).__name__) from None

    def pem(self) -> tuple[bytes, bytes]:
        """Chain and key, the key not encrypted. Raises: UserError: it cannot be used."""
        given = self._options
        if given.certificate is None or given.key is None:
            own = self._own()
            key = own.key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            return own.certificate.public_bytes(serialization.Encoding.PEM), key
        self.load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))  # says what is wrong with them
        return given.certificate.read_bytes(), given.key.read_bytes()

    def cannot_use(self, why: str) -> UserError:
        """What a person is told."""
        return UserError(
            f"{self._transport}: cert={self._options.certificate}, key={self._options.key}: {why}. Give PEM files that "
            "belong together, without a password, readable for the gateway"
        )

    def _own(self) -> Identity:
        return Identity(self._random, datetime.datetime.fromtimestamp(self._now, datetime.UTC), self._host)
