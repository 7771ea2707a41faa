"""The construction of Tor proposal 332 (ntor v3), with or without ML-KEM-768: pure functions over messages
of any length.

    client message  C = ID 32 | KEYID 32 | X 32 | [EK 1,184] | ENC(CM) | MAC 32
    relay message   S = Y 32 | [CT 1,088] | AUTH 32 | ENC(SM)

Brackets are what the KEM adds (PROTOCOL.md section 2): EK stands right after X, and CT right after Y,
wherever those stand in a hash or MAC; ENCAP(shared secret) stands right after Xb in secret_input. Without
them this is proposal 332, whose published vector the tests reproduce. H and MAC are SHA3-256, KDF is
SHAKE256, ENC is AES-256-CTR with a zero IV. `ntor` puts sizes, padding, replay protection and the order of
checks around it.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from phantomband.core.crypto import labels
from phantomband.core.crypto.dh import DH_BYTES, DhKey
from phantomband.core.crypto.kdf import HASH_BYTES, sha3_256, shake256
from phantomband.core.crypto.kem import KEM_CIPHERTEXT_BYTES, KEM_PUBLIC_BYTES, Encapsulate, KemKey
from phantomband.core.errors import Bug, Forged
from phantomband.core.wire import Reader, encap

ID_BYTES: Final = 32
KEY_BYTES: Final = 32
"""ENC_KEY_LEN and MAC_KEY_LEN of proposal 332."""

MAC_BYTES: Final = HASH_BYTES


@dataclass(frozen=True, slots=True)
class Variant:
    """One instance of the construction: its PROTOID, and whether ML-KEM takes part."""

    protoid: bytes
    kem: bool

    @property
    def client_overhead(self) -> int:
        """Bytes of C beyond CM."""
        return ID_BYTES + 2 * DH_BYTES + KEM_PUBLIC_BYTES * self.kem + MAC_BYTES

    @property
    def relay_overhead(self) -> int:
        """Bytes of S beyond SM."""
        return DH_BYTES + KEM_CIPHERTEXT_BYTES * self.kem + MAC_BYTES

    def tweak(self, suffix: str) -> bytes:
        """ENCAP(PROTOID:suffix), which begins every input of H, MAC and KDF."""
        return encap(labels.tweak(self.protoid, suffix))


HYBRID: Final = Variant(labels.NTOR3_PROTOID, kem=True)
"""The circuit handshake of every PhantomBand network."""


@dataclass(frozen=True, slots=True)
class Relay:
    """The relay as both sides name it: ID 32, B 32, and VER, on which they must agree."""

    node_id: bytes
    onion_key: bytes
    verification: bytes


@dataclass(frozen=True, slots=True)
class ClientMessage:
    """C, taken apart. `ephemeral` is X | EK, which stand together everywhere."""

    node_id: bytes
    key_id: bytes
    ephemeral: bytes
    sealed: bytes
    mac: bytes

    @classmethod
    def decode_untrusted(cls, variant: Variant, message: bytes) -> ClientMessage:
        """Any length of at least `client_overhead`.

        Raises:
            Malformed: shorter.
        """
        r = Reader(message)
        sealed_bytes = len(message) - variant.client_overhead
        return cls(
            r.take(ID_BYTES),
            r.take(DH_BYTES),
            r.take(DH_BYTES + KEM_PUBLIC_BYTES * variant.kem),
            r.take(sealed_bytes),
            r.take(MAC_BYTES),
        )

    @property
    def x(self) -> bytes:
        """X, 32 bytes."""
        return self.ephemeral[:DH_BYTES]


@dataclass(frozen=True, slots=True)
class ClientState:
    """What the client keeps between C and S."""

    variant: Variant
    relay: Relay
    x: DhKey
    kem: KemKey | None
    bx: bytes
    mac: bytes

    @property
    def ephemeral(self) -> bytes:
        """X | EK."""
        return self.x.public + (self.kem.public if self.kem else b"")


def crypt(key: bytes, data: bytes) -> bytes:
    """ENC and DEC: AES-256-CTR, zero IV (each key is used once)."""
    cipher = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()
    return cipher.update(data) + cipher.finalize()


def _phase1_keys(variant: Variant, relay: Relay, bx: bytes, ephemeral: bytes) -> tuple[bytes, bytes]:
    """(ENC_K1 32, MAC_K1 32) = KDF_msgkdf(Bx | ID | X | EK | B | PROTOID | ENCAP(VER))."""
    parts = (bx, relay.node_id, ephemeral, relay.onion_key, variant.protoid, encap(relay.verification))
    keys = shake256(2 * KEY_BYTES, variant.tweak("kdf_phase1"), *parts)
    return keys[:KEY_BYTES], keys[KEY_BYTES:]


def _message_mac(variant: Variant, relay: Relay, mac_key: bytes, ephemeral: bytes, sealed: bytes) -> bytes:
    """MAC_msgmac(MAC_K1, ID | B | X | EK | encrypted message), 32 bytes."""
    parts = (encap(mac_key), relay.node_id, relay.onion_key, ephemeral, sealed)
    return sha3_256(variant.tweak("msg_mac"), *parts)


def client_start(
    variant: Variant, relay: Relay, x: DhKey, kem: KemKey | None, message: bytes
) -> tuple[ClientState, bytes]:
    """(state, C) for the ephemeral keys `x` and `kem` and the client's message CM."""
    bx = x.exchange_untrusted(relay.onion_key)
    ephemeral = x.public + (kem.public if kem else b"")
    enc_key, mac_key = _phase1_keys(variant, relay, bx, ephemeral)
    sealed = crypt(enc_key, message)
    mac = _message_mac(variant, relay, mac_key, ephemeral, sealed)
    wire = relay.node_id + relay.onion_key + ephemeral + sealed + mac
    return ClientState(variant, relay, x, kem, bx, mac), wire


@dataclass(frozen=True, slots=True)
class Opened:
    """A client message whose MAC verified: what the relay needs to answer."""

    relay: Relay
    client: ClientMessage
    xb: bytes
    message: bytes


def server_open_untrusted(variant: Variant, relay: Relay, own: DhKey, client: ClientMessage) -> Opened:
    """Static Diffie-Hellman, then the MAC, then CM.

    Raises:
        Forged: X has small order, or the MAC does not verify.
    """
    xb = own.exchange_untrusted(client.x)
    enc_key, mac_key = _phase1_keys(variant, relay, xb, client.ephemeral)
    mac = _message_mac(variant, relay, mac_key, client.ephemeral, client.sealed)
    if not hmac.compare_digest(mac, client.mac):
        raise Forged("a circuit handshake does not verify")
    return Opened(relay, client, xb, crypt(enc_key, client.sealed))


def server_answer(
    variant: Variant, opened: Opened, y: DhKey, encapsulate: Encapsulate | None, reply: bytes, key_bytes: int
) -> tuple[bytes, bytes]:
    """(S, keys of `key_bytes` bytes) for the ephemeral key `y` and the relay's message SM.

    Raises:
        Malformed: EK is not a key.
        Forged: X has small order.
    """
    client = opened.client
    xy = y.exchange_untrusted(client.x)
    secret, ct = b"", b""
    if variant.kem:
        secret, ct = _present(encapsulate)(client.ephemeral[DH_BYTES:])
    final = _finish(variant, opened.relay, (xy, opened.xb, secret), client.ephemeral, y.public + ct, key_bytes)
    sealed = crypt(final.enc_key, reply)
    return y.public + ct + final.auth(client.mac, sealed) + sealed, final.keys


def client_finish_untrusted(state: ClientState, message: bytes, key_bytes: int) -> tuple[bytes, bytes]:
    """(SM, keys of `key_bytes` bytes) from S.

    Raises:
        Malformed: S is too short.
        Forged: Y has small order, or AUTH does not verify.
    """
    variant, r = state.variant, Reader(message)
    answer = r.take(DH_BYTES + KEM_CIPHERTEXT_BYTES * variant.kem)
    auth, sealed = r.take(MAC_BYTES), r.rest()
    xy = state.x.exchange_untrusted(answer[:DH_BYTES])
    secret = state.kem.decapsulate_untrusted(answer[DH_BYTES:]) if state.kem else b""
    final = _finish(variant, state.relay, (xy, state.bx, secret), state.ephemeral, answer, key_bytes)
    if not hmac.compare_digest(final.auth(state.mac, sealed), auth):
        raise Forged("an answer to a circuit handshake does not verify")
    return crypt(final.enc_key, sealed), final.keys


@dataclass(frozen=True, slots=True)
class _Final:
    """What both sides derive in the end; `answer` is Y | CT."""

    variant: Variant
    relay: Relay
    ephemeral: bytes
    answer: bytes
    verify: bytes
    enc_key: bytes
    keys: bytes

    def auth(self, client_mac: bytes, sealed: bytes) -> bytes:
        """AUTH = H_auth(verify | ID | B | Y | CT | X | EK | MAC | ENCAP(encrypted reply) | PROTOID |
        "Server")."""
        parts = (
            self.verify,
            self.relay.node_id,
            self.relay.onion_key,
            self.answer,
            self.ephemeral,
            client_mac,
        )
        return sha3_256(self.variant.tweak("auth_final"), *parts, encap(sealed), self.variant.protoid, b"Server")


def _finish(
    variant: Variant,
    relay: Relay,
    secrets: tuple[bytes, bytes, bytes],
    ephemeral: bytes,
    answer: bytes,
    key_bytes: int,
) -> _Final:
    """secret_input = Xy | Xb | ENCAP(ss) | ID | B | X | EK | Y | CT | PROTOID | ENCAP(VER)."""
    xy, xb, secret = secrets
    named = relay.node_id + relay.onion_key + ephemeral + answer + variant.protoid + encap(relay.verification)
    secret_input = xy + xb + (encap(secret) if variant.kem else b"") + named
    seed = sha3_256(variant.tweak("key_seed"), secret_input)
    verify = sha3_256(variant.tweak("verify"), secret_input)
    stream = shake256(KEY_BYTES + key_bytes, variant.tweak("kdf_final"), seed)
    return _Final(variant, relay, ephemeral, answer, verify, stream[:KEY_BYTES], stream[KEY_BYTES:])


def _present(encapsulate: Encapsulate | None) -> Callable[[bytes], tuple[bytes, bytes]]:
    if encapsulate is None:
        raise Bug("a hybrid handshake needs a way to encapsulate")
    return encapsulate
