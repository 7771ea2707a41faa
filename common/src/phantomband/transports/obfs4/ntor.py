"""ntor: a key exchange that authenticates the server (Tor proposal 216), and the keys of an obfs4 connection.

    secret_input = X25519(X, y) | X25519(X, b) | B | B | X | Y | PROTOID | ID
    KEY_SEED = H(secret_input, t_key)       verify = H(secret_input, t_verify)
    AUTH = H(verify | B | B | X | Y | PROTOID | ID | "Server", t_mac)
    keys = HKDF-SHA256(KEY_SEED, salt t_key, info m_expand), 144 bytes

H(x, t) is HMAC-SHA256 with key t. B stands twice, and before X and Y: so obfs4proxy computes it, unlike the
proposal; this is what is spoken on the wire. Keys: X, x the client's ephemeral ones, Y, y the server's, B, b its
identity's.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from phantomband.core.crypto.kdf import hmac_hash
from phantomband.core.errors import Forged
from phantomband.transports.obfs4.elligator import HiddenKeys
from phantomband.transports.obfs4.framing import KEY_BYTES
from phantomband.transports.obfs4.identity import Certificate, Identity

AUTH_BYTES = 32

_PROTOCOL = b"ntor-curve25519-sha256-1"
_T_MAC = _PROTOCOL + b":mac"
_T_KEY = _PROTOCOL + b":key_extract"
_T_VERIFY = _PROTOCOL + b":key_verify"
_M_EXPAND = _PROTOCOL + b":key_expand"


@dataclass(frozen=True, slots=True)
class Keys:
    """What both ends know after the exchange."""

    auth: bytes
    """AUTH, 32 bytes: only the server could compute it."""
    to_client: bytes = field(repr=False)
    """72 bytes, for `framing`."""
    to_server: bytes = field(repr=False)


def hmac_sha256(key: bytes, *parts: bytes) -> bytes:
    return hmac_hash(SHA256(), key, *parts)


def client_untrusted(server: Certificate, mine: HiddenKeys, server_public: bytes) -> Keys:
    """The client's side. Raises: Forged: a shared secret is zero."""
    first = _exchange_untrusted(mine.private, server_public)
    second = _exchange_untrusted(mine.private, server.public)
    return _keys(first + second, server, mine.public, server_public)


def server_untrusted(identity: Identity, mine: HiddenKeys, client_public: bytes) -> Keys:
    """The server's side. Raises: Forged: a shared secret is zero."""
    first = _exchange_untrusted(mine.private, client_public)
    second = _exchange_untrusted(identity.private, client_public)
    return _keys(first + second, identity.certificate, client_public, mine.public)


def _exchange_untrusted(private: X25519PrivateKey, public: bytes) -> bytes:
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise Forged("a shared secret is zero") from None


def _keys(secrets: bytes, server: Certificate, client_public: bytes, server_public: bytes) -> Keys:
    known = server.public + server.public + client_public + server_public + _PROTOCOL + server.node_id
    key_seed = hmac_sha256(_T_KEY, secrets, known)
    verify = hmac_sha256(_T_VERIFY, secrets, known)
    auth = hmac_sha256(_T_MAC, verify, known, b"Server")
    expanded = HKDF(SHA256(), 2 * KEY_BYTES, salt=_T_KEY, info=_M_EXPAND).derive(key_seed)
    # obfs4-spec section 4 says that the server's come first; obfs4proxy's clients seal with the first ones.
    return Keys(auth, to_server=expanded[:KEY_BYTES], to_client=expanded[KEY_BYTES:])
