"""The circuit handshake: `ntor3` in the hybrid variant, with fixed sizes, in one cell each way (PROTOCOL.md
section 2).

    C = ID 32 | KEYID 32 | X 32 | EK 1,184 | CM 256 | MAC 32    = 1,568 bytes
    S = Y 32 | CT 1,088 | AUTH 32 | SM 256                      = 1,408 bytes
    VER = ENCAP(network id 32 | hop 1)
    CM, SM = length 2 | message | zeros, padded to 256 and then encrypted: at most 254 bytes of message

CM has no forward secrecy and is not post-quantum: parameters only, **never tokens**. The exporter key names
the circuit to later protocols and is never used to encrypt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from phantomband.core.crypto.dh import DhKey
from phantomband.core.crypto.kem import Encapsulate, KemKey
from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.errors import Malformed
from phantomband.core.handshake import ntor3
from phantomband.core.handshake.ntor3 import HYBRID
from phantomband.core.handshake.replay import ReplayCache
from phantomband.core.ids import HopNumber, NodeId
from phantomband.core.wire import Reader, lv16, u8

PADDED_BYTES: Final = 256
"""Size of CM and SM, whatever they carry."""

MAX_MESSAGE_BYTES: Final = PADDED_BYTES - 2
CLIENT_BYTES: Final = HYBRID.client_overhead + PADDED_BYTES
"""Size of C: 1,568."""

RELAY_BYTES: Final = HYBRID.relay_overhead + PADDED_BYTES
"""Size of S: 1,408."""

MAX_HOP: Final = 8
"""Hops of a circuit: an extender at hop 8 refuses, so no circuit is endless."""

KEY_BYTES: Final = 32


class OnionKey(DhKey):
    """A relay's onion key B. The view names the current one; the previous and the next one are accepted too."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class RelayKeys:
    """What a client knows of a relay from the view: node id 32, onion key 32."""

    node_id: NodeId
    onion_key: bytes


@dataclass(frozen=True, slots=True, repr=False)
class CircuitKeys:
    """Kf | Kb | KH, 32 bytes each: client to relay, relay to client, exporter."""

    forward: bytes
    backward: bytes
    exporter: bytes

    @classmethod
    def split(cls, stream: bytes) -> CircuitKeys:
        """From the 96 bytes that the final KDF gives."""
        return cls(*(stream[i * KEY_BYTES : (i + 1) * KEY_BYTES] for i in range(3)))


def verification(network_id: bytes, hop: int) -> bytes:
    """What VER encapsulates: network id 32 | hop 1."""
    return network_id + u8(hop)


def pad(message: bytes) -> bytes:
    """256 bytes: length 2 | message | zeros.

    Raises:
        ValueError: `message` is over 254 bytes.
    """
    if len(message) > MAX_MESSAGE_BYTES:
        raise ValueError(f"a handshake message has at most {MAX_MESSAGE_BYTES} bytes, not {len(message)}")
    return lv16(message).ljust(PADDED_BYTES, b"\0")


def unpad_untrusted(padded: bytes) -> bytes:
    """The message in 256 bytes of `pad`.

    Raises:
        Malformed: the length is too large, or the padding is not zeros (it would be a covert channel).
    """
    r = Reader(padded)
    message = r.lv16()
    if r.rest().strip(b"\0"):
        raise Malformed("the padding of a handshake message is not zero")
    return message


@dataclass(frozen=True, slots=True)
class ClientHandshake:
    """The client between C and S."""

    _state: ntor3.ClientState

    def finish(self, answer: bytes) -> tuple[CircuitKeys, bytes]:
        """(keys, the relay's message) from S, 1,408 bytes.

        Raises:
            Malformed: wrong size or padding.
            Forged: not an answer of this relay to this C.
        """
        if len(answer) != RELAY_BYTES:
            raise Malformed(f"an answer to a circuit handshake has {RELAY_BYTES} bytes, not {len(answer)}")
        padded, stream = ntor3.client_finish_untrusted(self._state, answer, 3 * KEY_BYTES)
        return CircuitKeys.split(stream), unpad_untrusted(padded)


def client_start(
    relay: RelayKeys, network_id: bytes, hop: HopNumber, message: bytes, random: RandomSource
) -> tuple[ClientHandshake, bytes]:
    """(state, C of 1,568 bytes). Takes 32 (x) and then 64 (seed of EK) bytes from `random`.

    Raises:
        ValueError: `message` is over 254 bytes.
        Malformed, Forged: the relay's onion key is not a usable key.
    """
    named = ntor3.Relay(relay.node_id, relay.onion_key, verification(network_id, hop))
    x, kem = DhKey.generate(random), KemKey.generate(random)
    state, wire = ntor3.client_start(HYBRID, named, x, kem, pad(message))
    return ClientHandshake(state), wire


class Responder:
    """A relay's side. It may live in a worker process, with `admit` called on a second one in the parent before, and
    `remember` after.

    Args:
        keys: the onion keys that are accepted, current first.
        replay: remembers X by onion key; None where another `Responder` has admitted the message already.
    """

    __slots__ = ("_keys", "_network_id", "_node_id", "_replay")

    def __init__(
        self, node_id: NodeId, keys: Sequence[OnionKey], network_id: bytes, replay: ReplayCache | None
    ) -> None:
        self._node_id, self._network_id, self._replay = node_id, network_id, replay
        self.accept(keys)

    def accept(self, keys: Sequence[OnionKey]) -> None:
        """From now on these keys and no others: the keys were turned. What is known of a key that stays, stays."""
        self._keys = {key.public: key for key in keys}
        if self._replay is not None:
            self._replay.retain(self._keys)

    def admit(self, message: bytes, hop: int) -> None:
        """The checks that cost nothing, in PROTOCOL.md's order: length, hop, ID, KEYID, and X not seen
        before.

        Raises:
            Malformed, Forged: drop it; what was wrong is for our counters only.
        """
        if len(message) != CLIENT_BYTES:
            raise Malformed(f"a circuit handshake has {CLIENT_BYTES} bytes, not {len(message)}")
        if not 1 <= hop <= MAX_HOP:
            raise Malformed(f"hop {hop} is not within 1 to {MAX_HOP}")
        client = ntor3.ClientMessage.decode_untrusted(HYBRID, message)
        if client.node_id != self._node_id:
            raise Malformed("a circuit handshake for another node")
        if client.key_id not in self._keys:
            raise Malformed("a circuit handshake for an onion key that is not ours")
        if self._replay is not None:
            self._replay.check_untrusted(client.key_id, client.x)

    def remember(self, message: bytes) -> None:
        """Remembers X of a message that `admit` has let through and whose MAC has verified since.

        Not before the MAC: else who sends junk, which costs nothing to make, would make us forget what others sent. Of
        two copies that were admitted one after the other, the second is refused here.

        Raises:
            Forged: a copy was faster; drop it.
        """
        client = ntor3.ClientMessage.decode_untrusted(HYBRID, message)
        if self._replay is not None and client.key_id in self._keys:
            self._replay.add_untrusted(client.key_id, client.x)

    def answer(
        self,
        message: bytes,
        hop: int,
        reply: Callable[[bytes], bytes],
        random: RandomSource,
        encapsulate: Encapsulate,
    ) -> tuple[bytes, CircuitKeys, bytes]:
        """(S of 1,408 bytes, keys, the client's message). Takes 32 bytes (y) from `random`.

        `reply` gets the client's message and gives ours, at most 254 bytes; it may raise Malformed.

        Raises:
            Malformed, Forged: any fault of the message. The peer is told nothing but DESTROY, alike for
            every cause.
        """
        self.admit(message, hop)
        client = ntor3.ClientMessage.decode_untrusted(HYBRID, message)
        relay = ntor3.Relay(client.node_id, client.key_id, verification(self._network_id, hop))
        opened = ntor3.server_open_untrusted(HYBRID, relay, self._keys[client.key_id], client)
        self.remember(message)
        client_message = unpad_untrusted(opened.message)
        padded = pad(reply(client_message))
        y = DhKey.generate(random)
        answer, stream = ntor3.server_answer(HYBRID, opened, y, encapsulate, padded, 3 * KEY_BYTES)
        return answer, CircuitKeys.split(stream), client_message
