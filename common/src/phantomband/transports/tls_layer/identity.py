"""A name and a self-signed certificate to go with it, made anew at each start.

Neither proves anything: whoever dials does not verify them. The Noise handshake inside authenticates the
node.
"""

from __future__ import annotations

import datetime
import ssl
import tempfile
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

RandomSource = Callable[[int], bytes]

VALIDITY = datetime.timedelta(days=397)
"""Our choice: about the year that public certificates long had; nobody verifies it."""

_LETTERS = "abcdefghijklmnoprstuvw"
_SUFFIXES = ("com", "net")


def hostname(random: RandomSource) -> str:
    """A name such as www.drwkanost.com, of 7 to 14 random letters."""
    dice = random(16)
    letters = "".join(_LETTERS[byte % len(_LETTERS)] for byte in dice[2 : 9 + dice[0] % 8])
    return f"www.{letters}.{_SUFFIXES[dice[1] % len(_SUFFIXES)]}"


class Identity:
    """A hostname, an ECDSA P-256 key, and a certificate that became valid some days ago.

    Args:
        random: for the name and the age; the key comes from the `cryptography` package's own source.
        now: time of the start.
        name: a hostname that lasts; a new one if absent.
    """

    def __init__(self, random: RandomSource, now: datetime.datetime, name: str = "") -> None:
        self.hostname = name or hostname(random)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._sign(now - datetime.timedelta(minutes=int.from_bytes(random(2), "big")))

    def _sign(self, since: datetime.datetime) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.hostname)])
        names = [x509.DNSName(self.hostname), x509.DNSName(self.hostname.removeprefix("www."))]
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(since)
            .not_valid_after(since + VALIDITY)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self.key, hashes.SHA256())
        )

    def load_into(self, context: ssl.SSLContext, password: bytes) -> None:
        """The `ssl` module reads files only: the key is in one for a moment, encrypted under `password`."""
        encryption = serialization.BestAvailableEncryption(password)
        pem = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
        ) + self.certificate.public_bytes(serialization.Encoding.PEM)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "identity.pem"
            path.write_bytes(pem)
            context.load_cert_chain(path, password=password)
