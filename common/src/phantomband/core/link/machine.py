"""One end of a link: a Noise handshake with ML-KEM-768, then records of cells (PROTOCOL.md section 5).

    dialer -> listener   message 1   e 32 | e1 1,184 + 16 | payload 64 + 16       = 1,312 bytes
    listener -> dialer   message 2   e 32 | ekem1 1,088 + 16 | payload 64 + 16    = 1,216 bytes
    dialer -> listener   message 3   s 32 + 16 | payload 64 + 16                  = 128 bytes (XK only)

Protocol: `Noise_NKhfs_25519+MLKEM768_AESGCM_SHA256` for an anonymous dialer (a client), `XKhfs` for one
that proves its link key (a gateway), `NKhfs+psk0` and `XKhfs+psk0` where a bridge line gave a 32-byte key.
Prologue = "pb-link-1" | network id 32 | responder's node id 32. Message 1 of NK and XK are alike in size
and form: the listener tries NK, then XK. Payloads are 64 zero bytes, reserved; anything else in them is
refused, so that they are no covert channel.

A link that failed swallows everything from then on. Its owner reads on and closes after a random time, so
that neither bytes nor timing tell a prober what was wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from phantomband.core.crypto import labels
from phantomband.core.crypto.dh import DhKey
from phantomband.core.crypto.kem import Encapsulate
from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.errors import Bug, Malformed
from phantomband.core.handshake.noise import KEY_BYTES, Handshake, Keys, Protocol
from phantomband.core.handshake.replay import ReplayCache
from phantomband.core.ids import NodeId
from phantomband.core.link.records import Buffer, Opener, Sealer

PAYLOAD_BYTES: Final = 64
"""Room kept in each handshake message for parameters of later versions."""

_PAYLOAD: Final = bytes(PAYLOAD_BYTES)


class LinkKey(DhKey):
    """A gateway's static X25519 key, which its descriptor names."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Send:
    """Bytes of the handshake to write to the transport."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Established:
    """The handshake is done: `seal` works from now on.

    `peer_key` is the peer's link key, 32 bytes, proved; None for an anonymous dialer.
    """

    peer_key: bytes | None


@dataclass(frozen=True, slots=True)
class Cells:
    """One or more whole cells, n * 2,048 bytes, authentic, in order; the buffer is the receiver's to keep."""

    data: bytearray


Event = Send | Established | Cells


def _protocol(pattern: str, psk: bytes | None) -> Protocol:
    return Protocol.parse(f"Noise_{pattern}hfs{'+psk0' if psk else ''}_{labels.LINK_SUITE}")


def message_sizes(pattern: str, psk: bool) -> list[int]:
    """Sizes of the handshake's messages, bytes, for pattern NK or XK."""
    protocol = _protocol(pattern, b"?" if psk else None)
    return [protocol.message_bytes(i, PAYLOAD_BYTES) for i in range(len(protocol.messages))]


def _psks(psk: bytes | None) -> tuple[bytes, ...]:
    if psk is not None and len(psk) != KEY_BYTES:
        raise ValueError(f"a bridge line's key has {KEY_BYTES} bytes, not {len(psk)}")
    return (psk,) if psk else ()


def _prologue(network_id: bytes, responder: NodeId) -> bytes:
    return labels.LINK_PROLOGUE + network_id + responder


class _Side:
    """One candidate handshake with the sizes of its messages."""

    __slots__ = ("_next", "_sizes", "initiator", "noise")

    def __init__(self, pattern: str, initiator: bool, prologue: bytes, keys: Keys) -> None:
        protocol = _protocol(pattern, keys.psks[0] if keys.psks else None)
        self.noise = Handshake(protocol, initiator, prologue, keys)
        self.initiator = initiator
        self._sizes = [protocol.message_bytes(i, PAYLOAD_BYTES) for i in range(len(protocol.messages))]
        self._next = 0

    @property
    def due(self) -> int:
        """Bytes of the message that is awaited."""
        return self._sizes[self._next]

    @property
    def ours(self) -> bool:
        """Whether the next message is ours to write."""
        return not self.noise.finished and (self._next % 2 == 0) == self.initiator

    def write(self) -> bytes:
        self._next += 1
        return self.noise.write(_PAYLOAD)

    def read_untrusted(self, message: bytes) -> None:
        self._next += 1
        if self.noise.read_untrusted(message) != _PAYLOAD:
            raise Malformed("a reserved handshake payload is not zero")


class Link:
    """A link from its first byte to its last. Build it with `dial` or `listen`.

    Bounds: during the handshake at most one message (1,312 bytes) is kept, afterwards at most one record
    (30,754 bytes).
    """

    def __init__(self, candidates: Sequence[_Side], replay: tuple[ReplayCache, bytes] | None = None) -> None:
        self._candidates = list(candidates)
        self._replay = replay
        self._pending = bytearray()
        self._sealer: Sealer | None = None
        self._opener: Opener | None = None
        self._dead = False

    @property
    def established(self) -> bool:
        return self._sealer is not None

    def start(self) -> bytes:
        """The dialer's first message, 1,312 bytes."""
        if not self._candidates or not self._candidates[0].ours:
            raise Bug("only a dialer starts a link, and once")
        return self._candidates[0].write()

    def receive(self, data: Buffer) -> list[Event]:
        """What `data`, any part of the peer's byte stream, leads to.

        Raises:
            Malformed, Forged: the peer's bytes are wrong; what came before them in `data` is lost with the
            link. From now on it swallows all input and returns nothing.
        """
        if self._dead:
            return []
        try:
            if self._opener is None:
                return self._shake_untrusted(data)
            cells = self._opener.open_untrusted(data)
        except Malformed:
            self._die()
            raise
        return [Cells(cells)] if cells else []

    def seal(self, cells: Buffer) -> bytearray:
        """The bytes to send for `cells`, n * 2,048 bytes: one record or more.

        Raises:
            Bug: not established, or not whole cells.
            Refused: the link has carried all it may (2^63 records).
        """
        if self._sealer is None:
            raise Bug("a link seals cells only once it is established")
        return self._sealer.seal(cells)

    def _die(self) -> None:
        """Drops all keys: nothing may be opened or sealed any more."""
        self._dead = True
        self._pending, self._candidates = bytearray(), []
        self._opener = self._sealer = None

    def _shake_untrusted(self, data: Buffer) -> list[Event]:
        """Waits for whole messages, whose sizes are exact; what follows the last is records."""
        events: list[Event] = []
        if self._candidates[0].ours:
            raise Malformed("the listener spoke first")
        with memoryview(data) as view:
            at = 0
            while self._opener is None:
                missing = self._candidates[0].due - len(self._pending)
                self._pending += view[at : at + missing]
                if len(view) - at < missing:
                    return events
                at += missing
                message, self._pending = bytes(self._pending), bytearray()
                self._take_message_untrusted(message, events)
            cells = self._opener.open_untrusted(view[at:])
        return [*events, Cells(cells)] if cells else events

    def _take_message_untrusted(self, message: bytes, events: list[Event]) -> None:
        side = self._choose_untrusted(message)
        self._candidates = [side]
        if side.ours:
            events.append(Send(side.write()))
        if side.noise.finished:
            self._establish(side)
            events.append(Established(side.noise.peer_static))

    def _choose_untrusted(self, message: bytes) -> _Side:
        """The first candidate that accepts `message`; a listener's first message must also be new."""
        *others, last = self._candidates
        for side in others:
            try:
                side.read_untrusted(message)
            except Malformed:
                continue
            break
        else:
            side = last
            side.read_untrusted(message)
        if self._replay:
            cache, static = self._replay
            cache.add_untrusted(static, side.noise.peer_ephemeral or b"")
            self._replay = None
        return side

    def _establish(self, side: _Side) -> None:
        forward, backward = (cipher.key for cipher in side.noise.split())
        self._candidates = []
        own, peer = (forward, backward) if side.initiator else (backward, forward)
        self._sealer, self._opener = Sealer(own), Opener(peer)


def dial(
    network_id: bytes,
    responder_id: NodeId,
    responder_key: bytes,
    own_key: LinkKey | None,
    random: RandomSource,
    psk: bytes | None = None,
) -> Link:
    """The dialer's end: anonymous (NK) without `own_key`, else proving it (XK). `start` gives its first
    bytes.

    Takes 32 (e) and then 64 (seed of e1) bytes from `random`, at `start`.
    """
    keys = Keys(random, own_key, responder_key, _psks(psk))
    pattern = "XK" if own_key else "NK"
    return Link([_Side(pattern, True, _prologue(network_id, responder_id), keys)])


def listen(
    network_id: bytes,
    node_id: NodeId,
    own_key: LinkKey,
    random: RandomSource,
    encapsulate: Encapsulate,
    psk: bytes | None = None,
    replay: ReplayCache | None = None,
) -> Link:
    """The listener's end, for NK and XK dialers alike.

    Takes 32 bytes (e) from `random` when message 1 has been accepted. `replay`, shared by all links of a
    gateway, refuses a recorded message 1: a censor who replays one gets no answer.
    """
    keys = Keys(random, own_key, None, _psks(psk), encapsulate)
    prologue = _prologue(network_id, node_id)
    sides = [_Side(pattern, False, prologue, keys) for pattern in ("NK", "XK")]
    return Link(sides, (replay, own_key.public) if replay is not None else None)
