"""Onion layers: nested AEAD, 17 bytes a hop (PROTOCOL.md section 3).

    hop i seals P(i) = 2,043 - 17 (i - 1) bytes of the body:   AES-256-GCM( mark 1 | rest )
    mark 0x00  relayed: the rest is the P(i+1) bytes of the next layer
    mark 0x01  for this hop (forward) or from this hop (backward): the rest is a message of 2,043 - 17 i bytes

One key for each circuit, hop and direction; nonce = 4 zero bytes | 64-bit counter; the key ratchets forward every
1,024 cells: K <- SHAKE256(ENCAP(label) | K)[:32]; a layer closes at 2^40 cells. Counters advance on success only. The
mark stands inside the AEAD: in a header the predecessor could flip it.
"""

from __future__ import annotations

from collections.abc import Iterable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from phantomband.core.cell import BODY_BYTES
from phantomband.core.crypto.kdf import shake256
from phantomband.core.crypto.labels import ONION_RATCHET
from phantomband.core.errors import Forged, Malformed
from phantomband.core.wire import encap

KEY_BYTES = 32
TAG_BYTES = 16
MARK_BYTES = 1
LAYER_BYTES = TAG_BYTES + MARK_BYTES
"""What one hop costs in every cell."""

MARK_RELAYED = 0
MARK_OWN = 1
RELAYED = bytes((MARK_RELAYED,))
OWN = bytes((MARK_OWN,))

MAX_HOPS = 8
"""Longest circuit (PROTOCOL.md section 2: the hop limit)."""

RATCHET_CELLS = 1024
"""Cells under one key, a power of two (PROTOCOL.md section 3)."""

CLOSE_CELLS = 1 << 40
"""A layer refuses to go on after this many cells, far below the nonce's 2^64."""

_RATCHET_MASK = RATCHET_CELLS - 1


def sealed_bytes(hop: int) -> int:
    """P(hop): bytes of the body that hop `hop` (from 1) seals or opens."""
    return BODY_BYTES - LAYER_BYTES * (hop - 1)


def message_room(hop: int) -> int:
    """Bytes of a message to or from hop `hop`: 1,992 for the third."""
    return BODY_BYTES - LAYER_BYTES * hop


class Layer:
    """One key of one hop in one direction, with its counter and ratchet. Used either to seal or to open."""

    __slots__ = ("_decrypt", "_encrypt", "_key", "counter")

    def __init__(self, key: bytes) -> None:
        """Args: key: 32 bytes from the circuit handshake."""
        self.counter = 0
        self._set(key)

    def _set(self, key: bytes) -> None:
        aead = AESGCM(key)
        self._key = key
        self._encrypt = aead.encrypt
        self._decrypt = aead.decrypt

    def _ratchet(self) -> None:
        if self.counter >= CLOSE_CELLS:
            raise Malformed("a circuit key is used up")
        if self.counter:
            self._set(shake256(KEY_BYTES, encap(ONION_RATCHET), self._key))

    def seal(self, plaintext: bytes) -> bytes:
        """`plaintext` sealed: 16 bytes longer; its last 16 bytes are the tag."""
        counter = self.counter
        if not counter & _RATCHET_MASK:
            self._ratchet()
        out = self._encrypt(counter.to_bytes(12, "big"), plaintext, None)
        self.counter = counter + 1
        return out

    def seal_all(self, plaintexts: Iterable[bytes]) -> list[bytes]:
        """Each of `plaintexts` sealed, in order: what `seal` does, for the hot path."""
        encrypt, counter, out = self._encrypt, self.counter, []
        for plaintext in plaintexts:
            if not counter & _RATCHET_MASK:
                self.counter = counter
                self._ratchet()
                encrypt = self._encrypt
            out.append(encrypt(counter.to_bytes(12, "big"), plaintext, None))
            counter += 1
        self.counter = counter
        return out

    def open_all(self, sealed: Iterable[bytes]) -> list[bytes]:
        """Each of `sealed` opened, in order: what `open` does, for the hot path.

        Raises:
            Forged: one did not open; none is given, and the layer is unusable afterwards.
        """
        decrypt, counter, out = self._decrypt, self.counter, []
        try:
            for one in sealed:
                if not counter & _RATCHET_MASK:
                    self.counter = counter
                    self._ratchet()
                    decrypt = self._decrypt
                out.append(decrypt(counter.to_bytes(12, "big"), one, None))
                counter += 1
        except InvalidTag:
            raise Forged("an onion layer did not open") from None
        self.counter = counter
        return out

    def open(self, sealed: bytes) -> bytes:
        """The plaintext, 16 bytes shorter.

        Raises:
            Forged: changed, replayed, dropped or reordered; the layer is unusable afterwards.
        """
        counter = self.counter
        if not counter & _RATCHET_MASK:
            self._ratchet()
        try:
            out = self._decrypt(counter.to_bytes(12, "big"), sealed, None)
        except InvalidTag:
            raise Forged("an onion layer did not open") from None
        self.counter = counter + 1
        return out
