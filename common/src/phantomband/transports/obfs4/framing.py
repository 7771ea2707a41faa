"""Frames: what follows the handshake, in each direction on its own.

    frame   length 2, masked | secretbox (XSalsa20-Poly1305): tag 16 | packet 3 to 1430
    packet  type 1 | payload length 2 | payload | padding (zeros)

The length is that of the secretbox, XORed with the first two bytes of the next block of the direction's `Drbg`. The
nonce is a prefix of 16 bytes and a counter of 8, beginning with 1. All numbers are big endian. Source: obfs4-spec,
section 5.

The cost of a frame decides the speed of the transport. So whole buffers are sealed and opened at a time, and libsodium
is called directly, where PyNaCl's own functions would copy each packet four times (a third of the time).
"""

from __future__ import annotations

from collections.abc import Callable

from nacl._sodium import ffi, lib
from nacl.bindings import crypto_secretbox

from phantomband.core.errors import Bug, Forged, Malformed
from phantomband.transports.obfs4.drbg import SEED_BYTES, Drbg

RandomSource = Callable[[int], bytes]

SEGMENT_BYTES = 1448
"""The largest frame: what a TCP segment carries at an MTU of 1,500 with time stamps."""

LENGTH_BYTES = 2
TAG_BYTES = 16
PACKET_HEADER_BYTES = 3

PACKET_OVERHEAD = LENGTH_BYTES + TAG_BYTES + PACKET_HEADER_BYTES
"""Bytes of a frame without payload and padding: 21."""

MAX_PAYLOAD = SEGMENT_BYTES - PACKET_OVERHEAD
"""Bytes of payload and padding together in one frame: 1,427."""

MIN_BOX = TAG_BYTES
MAX_BOX = SEGMENT_BYTES - LENGTH_BYTES

_SECRET_KEY_BYTES = 32
_PREFIX_BYTES = 16
KEY_BYTES = _SECRET_KEY_BYTES + _PREFIX_BYTES + SEED_BYTES
"""Of one direction: secretbox key 32 | nonce prefix 16 | seed of the lengths' generator 24."""

TYPE_PAYLOAD = 0
TYPE_SEED = 1

MAX_COUNTER = 2**64

_FULL_PACKET = PACKET_HEADER_BYTES + MAX_PAYLOAD
_FULL_HEADER = bytes([TYPE_PAYLOAD]) + MAX_PAYLOAD.to_bytes(2, "big")
_FULL_LENGTH = MAX_BOX.to_bytes(LENGTH_BYTES, "big")

_SEAL = lib.crypto_secretbox_easy
"""(box, packet, length of packet, nonce, key): writes 16 bytes more than the packet has; 0."""

_OPEN = lib.crypto_secretbox_open_easy
"""(packet, box, length of box, nonce, key): writes 16 bytes fewer than the box has; not 0 if it does not verify."""


class _Direction:
    """Key, nonces and masks of one direction. Args: key: 72 bytes."""

    def __init__(self, key: bytes) -> None:
        self._key = key[:_SECRET_KEY_BYTES]
        self._prefix = key[_SECRET_KEY_BYTES : _SECRET_KEY_BYTES + _PREFIX_BYTES]
        self._masks = Drbg(key[_SECRET_KEY_BYTES + _PREFIX_BYTES :])
        self._counter = 1

    def _check(self, frames: int) -> None:
        """A nonce used twice would give the key stream away: the sender MUST stop before (section 5)."""
        if self._counter + frames > MAX_COUNTER:
            raise Bug("the counter of an obfs4 connection is used up")


class Sealer(_Direction):
    """Makes frames."""

    def seal(self, data: bytes) -> bytearray:
        """`data` in frames as large as they can be."""
        count = len(data) // MAX_PAYLOAD
        self._check(count + 1)
        out = bytearray(count * SEGMENT_BYTES)
        start = ffi.from_buffer(out)
        key, prefix, block, counter = self._key, self._prefix, self._masks.block, self._counter
        at = 0
        for offset in range(0, len(out), SEGMENT_BYTES):
            mask = block()
            out[offset] = mask[0] ^ _FULL_LENGTH[0]
            out[offset + 1] = mask[1] ^ _FULL_LENGTH[1]
            packet = _FULL_HEADER + data[at : at + MAX_PAYLOAD]
            box = start + (offset + LENGTH_BYTES)
            if _SEAL(box, packet, _FULL_PACKET, prefix + counter.to_bytes(8, "big"), key):
                raise Bug("libsodium does not seal")
            at += MAX_PAYLOAD
            counter += 1
        self._counter = counter
        if at < len(data):
            ffi.release(start)  # or the buffer could not grow
            out += self.packet(TYPE_PAYLOAD, data[at:])
        return out

    def packet(self, kind: int, payload: bytes, padding: int = 0) -> bytes:
        """One frame; payload and padding have at most `MAX_PAYLOAD` bytes together."""
        self._check(1)
        packet = bytes([kind]) + len(payload).to_bytes(2, "big") + payload + bytes(padding)
        box = crypto_secretbox(packet, self._prefix + self._counter.to_bytes(8, "big"), self._key)
        self._counter += 1
        mask = int.from_bytes(self._masks.block()[:LENGTH_BYTES], "big")
        return (len(box) ^ mask).to_bytes(LENGTH_BYTES, "big") + box


class Opener(_Direction):
    """Opens frames.

    Args:
        key: 72 bytes.
        random: used where a length is out of range, two bytes.

    **Limit**: holds less than one frame.
    """

    def __init__(self, key: bytes, random: RandomSource) -> None:
        super().__init__(key)
        self._random = random
        self._held = b""
        self._wanted = 0  # bytes of the secretbox that is next; 0: its length has not been read
        self._doomed = False
        self._packet = bytearray(MAX_BOX)
        self._target = ffi.from_buffer(self._packet)
        self.seed: bytes | None = None
        """The last seed that came."""

    @property
    def inside_frame(self) -> bool:
        """Whether a frame has begun that is not complete."""
        return bool(self._held or self._wanted)

    def open_untrusted(self, data: bytes) -> bytes:
        """The payload of all frames that `data` completes.

        Raises:
            Malformed: a frame is none of ours. The connection has to end; nothing after it can be read.
        """
        data = self._held + data
        out: list[bytes | bytearray] = []
        at, end = 0, len(data)
        key, prefix, counter, wanted = self._key, self._prefix, self._counter, self._wanted
        self._check(end // (LENGTH_BYTES + MIN_BOX) + 1)
        source, packet, target = ffi.from_buffer(data), self._packet, self._target
        while True:
            if not wanted:
                if end - at < LENGTH_BYTES:
                    break
                wanted = self._length(data[at], data[at + 1])
                at += LENGTH_BYTES
            if end - at < wanted:
                break
            if _OPEN(target, source + at, wanted, prefix + counter.to_bytes(8, "big"), key):
                raise Forged("a frame does not verify")
            if self._doomed:
                raise Forged("a frame's length was out of range")
            if wanted == MAX_BOX and packet.startswith(_FULL_HEADER):
                out.append(packet[PACKET_HEADER_BYTES:_FULL_PACKET])
            else:
                out.append(self._payload_untrusted(bytes(packet[: wanted - TAG_BYTES])))
            at += wanted
            counter += 1
            wanted = 0
        self._held, self._counter, self._wanted = data[at:], counter, wanted
        return b"".join(out)

    def _length(self, high: int, low: int) -> int:
        """Unmasks a length. One out of range becomes a random one, and the frame fails later.

        Who changes bytes on the way would else learn from the moment of the failure what was masked (Albrecht, Paterson
        and Watson, "Plaintext recovery attacks against SSH", 2009).
        """
        mask = self._masks.block()
        length = (high ^ mask[0]) << 8 | (low ^ mask[1])
        if MIN_BOX <= length <= MAX_BOX:
            return length
        self._doomed = True
        return MIN_BOX + int.from_bytes(self._random(2), "big") % (MAX_BOX - MIN_BOX + 1)

    def _payload_untrusted(self, packet: bytes) -> bytes:
        if len(packet) < PACKET_HEADER_BYTES:
            raise Malformed("a packet is shorter than its header")
        size = int.from_bytes(packet[1:PACKET_HEADER_BYTES], "big")
        if size > len(packet) - PACKET_HEADER_BYTES:
            raise Malformed("a packet is shorter than its payload")
        payload = packet[PACKET_HEADER_BYTES : PACKET_HEADER_BYTES + size]
        if packet[0] == TYPE_SEED and size == SEED_BYTES:
            self.seed = payload
        # "Implementations SHOULD ignore unknown packet types" (section 5).
        return payload if packet[0] == TYPE_PAYLOAD else b""
