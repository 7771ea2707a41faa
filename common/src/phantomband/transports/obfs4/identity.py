"""Who an obfs4 server is: node id, X25519 key, seed of its lengths; and the certificate that its clients need.

    key file   node id 20 | private key 32 | seed 24
    cert       base64 without padding of: node id 20 | public key 32       70 characters

The certificate is public towards clients and secret towards everyone else: whoever has it can find out that the port
speaks obfs4. It is no other identity of the node's. Source: obfs4-spec, section 4.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from phantomband.core.errors import Malformed, UserError
from phantomband.transports import kept
from phantomband.transports.obfs4.drbg import SEED_BYTES
from phantomband.transports.obfs4.elligator import KEY_BYTES, RandomSource
from phantomband.transports.obfs4.lengths import lengths

NODE_ID_BYTES = 20
CERTIFICATE_BYTES = NODE_ID_BYTES + KEY_BYTES
FILE_BYTES = NODE_ID_BYTES + KEY_BYTES + SEED_BYTES
_BASE64_PADDING = "=="


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a client knows of its server."""

    node_id: bytes
    """20 bytes."""
    public: bytes
    """X25519, 32 bytes."""

    @classmethod
    def parse_untrusted(cls, text: str) -> Certificate:
        """From the `cert` of a bridge line or an address.

        Raises:
            Malformed: it is none.
        """
        try:
            raw = base64.b64decode(text.rstrip("=") + _BASE64_PADDING, validate=True)
        except (binascii.Error, ValueError):
            raise Malformed("an obfs4 certificate is base64") from None
        if len(raw) != CERTIFICATE_BYTES:
            raise Malformed(f"an obfs4 certificate has {CERTIFICATE_BYTES} bytes, not {len(raw)}")
        return cls(raw[:NODE_ID_BYTES], raw[NODE_ID_BYTES:])

    @property
    def text(self) -> str:
        return base64.b64encode(self.node_id + self.public).decode().removesuffix(_BASE64_PADDING)

    @property
    def mac_key(self) -> bytes:
        """B | NODEID, which keys the marks and MACs of a handshake."""
        return self.public + self.node_id


class Identity:
    """A server's. Args: secret: 76 bytes, as the key file has them."""

    __slots__ = ("certificate", "private", "seed")

    def __init__(self, secret: bytes) -> None:
        self.private = X25519PrivateKey.from_private_bytes(secret[NODE_ID_BYTES : NODE_ID_BYTES + KEY_BYTES])
        self.seed = secret[NODE_ID_BYTES + KEY_BYTES :]
        """Of the server's tables and of its delay before a failed connection is closed; 24 bytes."""
        self.certificate = Certificate(secret[:NODE_ID_BYTES], self.private.public_key().public_bytes_raw())


def new_secret(random: RandomSource) -> bytes:
    """A new identity's 76 bytes.

    Its table of lengths has no 0: obfs4proxy and lyrebird clients in IAT mode 2 end with a panic when they draw that.
    """
    while True:
        secret = random(FILE_BYTES)
        if 0 not in lengths(secret[-SEED_BYTES:]).values:
            return secret


def load_or_create(path: Path, random: RandomSource) -> Identity:
    """The identity in the file `path`; a new one if there is no such file, with mode 0600.

    Raises:
        UserError: others may read the file, or it is not of this form.
    """
    secret = kept.load_or_create(path, lambda: new_secret(random))
    if len(secret) != FILE_BYTES:
        raise UserError(
            f"{path}: has {len(secret)} bytes, an obfs4 key has {FILE_BYTES}. Restore it, or remove it for a new one: "
            "clients that have the old certificate then cannot connect"
        )
    return Identity(secret)
