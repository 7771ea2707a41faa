"""The Noise Protocol Framework, revision 34, as a sans-io machine.

Patterns NK, NK1, XK and XK1 with modifiers hfs and psk0 to psk3, over 25519 (and ML-KEM-768).
Tokens are the specification's; `e1` and `ekem1` are those of the hybrid-forward-secrecy extension
(noise_hfs_spec, with ML-KEM as the KEM): `e1` sends an encapsulation key through EncryptAndHash, `ekem1` a
ciphertext likewise, after which MixKey takes the shared secret. Section numbers below are of revision 34.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from phantomband.core.crypto.dh import DH_BYTES, DhKey, check_public_untrusted
from phantomband.core.crypto.kdf import noise_hkdf
from phantomband.core.crypto.kem import KEM_CIPHERTEXT_BYTES, KEM_PUBLIC_BYTES, Encapsulate, KemKey
from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.errors import Bug, Forged, Malformed

T = TypeVar("T")

TAG_BYTES: Final = 16
"""Tag of both AEADs (section 4.2)."""

KEY_BYTES: Final = 32
"""Cipher key, and pre-shared symmetric key (sections 4.2 and 9.1)."""

MAX_NONCE: Final = 2**64 - 1
"""Reserved for REKEY (section 5.1); no message uses it."""

_PSK: Final = "psk"
_EPHEMERAL: Final = "e"

_PATTERNS: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "NK": (("e", "es"), ("e", "ee")),
    "NK1": (("e",), ("e", "ee", "es")),
    "XK": (("e", "es"), ("e", "ee"), ("s", "se")),
    "XK1": (("e",), ("e", "ee", "es"), ("s", "se")),
}
"""Section 7.5 and appendix; each begins with the responder's static key as pre-message."""

_HASHES: Final[dict[str, hashes.HashAlgorithm]] = {
    "SHA256": hashes.SHA256(),
    "SHA512": hashes.SHA512(),
    "BLAKE2s": hashes.BLAKE2s(32),
    "BLAKE2b": hashes.BLAKE2b(64),
}
_DH: Final = {"25519": False, "25519+MLKEM768": True}
_CIPHERS: Final[dict[str, type[AESGCM] | type[ChaCha20Poly1305]]] = {
    "AESGCM": AESGCM,
    "ChaChaPoly": ChaCha20Poly1305,
}


@dataclass(frozen=True, slots=True)
class Protocol:
    """A Noise protocol name taken apart (section 8)."""

    name: bytes
    messages: tuple[tuple[str, ...], ...]
    cipher: str
    hash: hashes.HashAlgorithm
    uses_psk: bool

    @classmethod
    def parse(cls, name: str) -> Protocol:
        """From, for example, `Noise_XKhfs+psk0_25519+MLKEM768_AESGCM_SHA256`.

        Raises:
            ValueError: something in the name is not known here.
        """
        try:
            noise, handshake, dh, cipher, hash_name = name.split("_")
            base = max((p for p in _PATTERNS if handshake.startswith(p)), key=len)
            modifiers = [m for m in handshake[len(base) :].split("+") if m]
            known = noise == "Noise" and _DH[dh] == ("hfs" in modifiers) and cipher in _CIPHERS
            algorithm = _HASHES[hash_name]
        except (KeyError, ValueError) as e:
            raise ValueError(f"unknown Noise protocol {name}") from e
        if not known:
            raise ValueError(f"unknown Noise protocol {name}")
        messages = _modified(_PATTERNS[base], modifiers)
        return cls(name.encode(), messages, cipher, algorithm, any(_PSK in m for m in messages))

    def message_bytes(self, index: int, payload: int) -> int:
        """Size of handshake message `index` (from 0) that carries `payload` bytes."""
        has_key, size = False, 0
        for i, tokens in enumerate(self.messages[: index + 1]):
            size = 0
            for token in tokens:
                size += _TOKEN_BYTES.get(token, 0) + (TAG_BYTES if has_key and token in _SEALED else 0)
                has_key = has_key or token not in _KEYLESS or (self.uses_psk and token == _EPHEMERAL)
            size += payload * (i == index) + TAG_BYTES * has_key
        return size


_TOKEN_BYTES: Final = {"e": DH_BYTES, "s": DH_BYTES, "e1": KEM_PUBLIC_BYTES, "ekem1": KEM_CIPHERTEXT_BYTES}
_SEALED: Final = ("s", "e1", "ekem1")
_KEYLESS: Final = ("e", "s", "e1")
"""Tokens after which there is no key where there was none before."""


def _modified(pattern: tuple[tuple[str, ...], ...], modifiers: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The pattern with `hfs` and `pskN` tokens put in (hfs spec section 5; section 9.4)."""
    messages = [list(tokens) for tokens in pattern]
    for modifier in modifiers:
        if modifier == "hfs":
            first = messages[0]
            first.insert(first.index("es") + 1 if "es" in first else first.index("e") + 1, "e1")
            messages[1].insert(messages[1].index("ee") + 1, "ekem1")
        elif modifier == "psk0":
            messages[0].insert(0, "psk")
        elif modifier[:3] == "psk" and modifier[3:] in ("1", "2", "3") and int(modifier[3:]) <= len(messages):
            messages[int(modifier[3:]) - 1].append("psk")
        else:
            raise ValueError(f"unknown Noise modifier {modifier}")
    return tuple(tuple(tokens) for tokens in messages)


class CipherState:
    """A key and a counter (section 5.1)."""

    __slots__ = ("_aead", "_order", "cipher", "key", "nonce")

    def __init__(self, cipher: str, key: bytes) -> None:
        self.cipher, self.key, self.nonce = cipher, key, 0
        self._order = "big" if cipher == "AESGCM" else "little"
        self._aead = _CIPHERS[cipher](key)

    def seal(self, data: bytes, ad: bytes = b"") -> bytes:
        """EncryptWithAd: `data` and a 16-byte tag."""
        out = self._aead.encrypt(self._next(), data, ad)
        self.nonce += 1
        return out

    def open_untrusted(self, data: bytes, ad: bytes = b"") -> bytes:
        """DecryptWithAd; the counter advances on success only.

        Raises:
            Forged: the tag does not verify, or is not there.
        """
        try:
            out = self._aead.decrypt(self._next(), data, ad)
        except InvalidTag as e:
            raise Forged("a handshake message does not verify") from e
        self.nonce += 1
        return out

    def _next(self) -> bytes:
        if self.nonce >= MAX_NONCE:
            raise Bug("a Noise counter is used up")
        return nonce_bytes(self.nonce, self._order)


def nonce_bytes(counter: int, order: str) -> bytes:
    """12 bytes: four zeros | 64-bit counter, big-endian for AESGCM, little for ChaChaPoly (section 12)."""
    return bytes(4) + counter.to_bytes(8, "big" if order == "big" else "little")


class SymmetricState:
    """Chaining key, handshake hash and the cipher of the moment (section 5.2)."""

    __slots__ = ("_cipher", "_protocol", "ck", "h")

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol
        self._cipher: CipherState | None = None
        size = protocol.hash.digest_size
        self.h = protocol.name.ljust(size, b"\0") if len(protocol.name) <= size else self._hash(protocol.name)
        self.ck = self.h

    def _hash(self, data: bytes) -> bytes:
        h = hashes.Hash(self._protocol.hash)
        h.update(data)
        return h.finalize()

    def mix_hash(self, data: bytes) -> None:
        self.h = self._hash(self.h + data)

    def mix_key(self, material: bytes) -> None:
        self.ck, key = noise_hkdf(self._protocol.hash, self.ck, material, 2)
        self._cipher = CipherState(self._protocol.cipher, key[:KEY_BYTES])

    def mix_key_and_hash(self, material: bytes) -> None:
        self.ck, temp_h, key = noise_hkdf(self._protocol.hash, self.ck, material, 3)
        self.mix_hash(temp_h)
        self._cipher = CipherState(self._protocol.cipher, key[:KEY_BYTES])

    @property
    def overhead(self) -> int:
        """Bytes that encryption adds now: 0 before the first key, then 16."""
        return TAG_BYTES if self._cipher else 0

    def encrypt_and_hash(self, plain: bytes) -> bytes:
        sealed = self._cipher.seal(plain, self.h) if self._cipher else plain
        self.mix_hash(sealed)
        return sealed

    def decrypt_and_hash_untrusted(self, sealed: bytes) -> bytes:
        plain = self._cipher.open_untrusted(sealed, self.h) if self._cipher else sealed
        self.mix_hash(sealed)
        return plain

    def split(self) -> tuple[CipherState, CipherState]:
        """Two ciphers: initiator to responder, responder to initiator."""
        first, second = noise_hkdf(self._protocol.hash, self.ck, b"", 2)
        cipher = self._protocol.cipher
        return CipherState(cipher, first[:KEY_BYTES]), CipherState(cipher, second[:KEY_BYTES])


@dataclass(frozen=True, slots=True)
class Keys:
    """What one side brings to a handshake; every field that its pattern does not need stays None."""

    random: RandomSource
    own_static: DhKey | None = None
    peer_static: bytes | None = None
    psks: tuple[bytes, ...] = ()
    encapsulate: Encapsulate | None = None


class Handshake:
    """One side of a handshake: `write` and `read_untrusted` in turn, the initiator writing first (section
    5.3).

    Any failure while reading leaves the state unusable; the owner drops it.
    """

    def __init__(self, protocol: Protocol, initiator: bool, prologue: bytes, keys: Keys) -> None:
        self._protocol, self._initiator, self._keys = protocol, initiator, keys
        self._symmetric = SymmetricState(protocol)
        self._ephemeral: DhKey | None = None
        self._kem: KemKey | None = None
        self._peer_ephemeral: bytes | None = None
        self._peer_kem: bytes | None = None
        self.peer_static = keys.peer_static
        self._psks = list(keys.psks)
        self._at = 0
        self._symmetric.mix_hash(prologue)
        responder = _present(keys.peer_static) if initiator else _present(keys.own_static).public
        self._symmetric.mix_hash(responder)

    @property
    def finished(self) -> bool:
        return self._at == len(self._protocol.messages)

    @property
    def peer_ephemeral(self) -> bytes | None:
        """The ephemeral key that the peer sent, 32 bytes: what a replay cache remembers."""
        return self._peer_ephemeral

    @property
    def hash(self) -> bytes:
        """The handshake hash, for channel binding (section 11.2)."""
        return self._symmetric.h

    def split(self) -> tuple[CipherState, CipherState]:
        """(initiator to responder, responder to initiator), when finished."""
        if not self.finished:
            raise Bug("a handshake was split before its end")
        return self._symmetric.split()

    def write(self, payload: bytes) -> bytes:
        """The next message, ours to send."""
        out = bytearray()
        for token in self._turn(writing=True):
            out += self._write_token(token)
        out += self._symmetric.encrypt_and_hash(payload)
        return bytes(out)

    def _write_token(self, token: str) -> bytes:
        symmetric, keys = self._symmetric, self._keys
        match token:
            case "e":
                self._ephemeral = DhKey.generate(keys.random)
                self._mix_ephemeral(self._ephemeral.public)
                return self._ephemeral.public
            case "s":
                return symmetric.encrypt_and_hash(_present(keys.own_static).public)
            case "e1":
                self._kem = KemKey.generate(keys.random)
                return symmetric.encrypt_and_hash(self._kem.public)
            case "ekem1":
                secret, ciphertext = _present(keys.encapsulate)(_present(self._peer_kem))
                sealed = symmetric.encrypt_and_hash(ciphertext)
                symmetric.mix_key(secret)
                return sealed
            case _:
                self._mix_token(token)
                return b""

    def read_untrusted(self, message: bytes) -> bytes:
        """The payload of the peer's next message.

        Raises:
            Malformed: the message is too short, or holds something that is not a key.
            Forged: a tag does not verify, or a key has small order.
        """
        rest = message
        for token in self._turn(writing=False):
            size = _TOKEN_BYTES.get(token, 0)
            size += self._symmetric.overhead if token in _SEALED else 0
            if len(rest) < size:
                raise Malformed("a handshake message is too short")
            self._read_token_untrusted(token, rest[:size])
            rest = rest[size:]
        return self._symmetric.decrypt_and_hash_untrusted(rest)

    def _read_token_untrusted(self, token: str, data: bytes) -> None:
        symmetric = self._symmetric
        match token:
            case "e":
                self._peer_ephemeral = data
                self._mix_ephemeral(data)
            case "s":
                self.peer_static = symmetric.decrypt_and_hash_untrusted(data)
                check_public_untrusted(self.peer_static, "the peer's static key")
            case "e1":
                self._peer_kem = symmetric.decrypt_and_hash_untrusted(data)
            case "ekem1":
                ciphertext = symmetric.decrypt_and_hash_untrusted(data)
                symmetric.mix_key(_present(self._kem).decapsulate_untrusted(ciphertext))
            case _:
                self._mix_token(token)

    def _mix_ephemeral(self, public: bytes) -> None:
        self._symmetric.mix_hash(public)
        if self._protocol.uses_psk:  # "e" tokens are also followed by MixKey in PSK handshakes (section 9.2)
            self._symmetric.mix_key(public)

    def _mix_token(self, token: str) -> None:
        """`psk`, or a DH token: its first letter is the initiator's key, its second the responder's."""
        if token == _PSK:
            return self._symmetric.mix_key_and_hash(self._psks.pop(0))
        own, peer = (token[0], token[1]) if self._initiator else (token[1], token[0])
        private = self._ephemeral if own == "e" else self._keys.own_static
        public = self._peer_ephemeral if peer == "e" else self.peer_static
        self._symmetric.mix_key(_present(private).exchange_untrusted(_present(public)))
        return None

    def _turn(self, writing: bool) -> tuple[str, ...]:
        """The tokens of the next message, if it is ours to write or to read."""
        if self.finished or writing != ((self._at % 2 == 0) == self._initiator):
            raise Bug("a handshake message out of turn")
        self._at += 1
        return self._protocol.messages[self._at - 1]


def _present(value: T | None) -> T:
    """`value`, which the pattern promises."""
    if value is None:
        raise Bug("a handshake lacks a key that its pattern needs")
    return value
