"""The handshake as two machines that are fed bytes: no socket, no clock, no randomness of their own.

    client   X' 32 | padding 77 to 8,128 | M_C 16 | MAC_C 16
    server   Y' 32 | AUTH 32 | padding 0 to 8,051 | M_S 16 | MAC_S 16 | a frame with the seed, 45

X' and Y' are representatives (`elligator`). With HMAC-SHA256 truncated to 16 bytes under the key B | NODEID: the mark
M is over the representative, and says where the padding ends; the MAC is over all before it and the hour since 1970
in decimal digits. Source: obfs4-spec, sections 4 and 6.

**Limits**: 8,192 bytes either way; what does not fit fails.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass

from phantomband.core.errors import Forged
from phantomband.transports.obfs4 import ntor
from phantomband.transports.obfs4.drbg import SEED_BYTES
from phantomband.transports.obfs4.elligator import REPRESENTATIVE_BYTES, HiddenKeys, RandomSource, reveal
from phantomband.transports.obfs4.framing import PACKET_OVERHEAD
from phantomband.transports.obfs4.identity import Certificate, Identity
from phantomband.transports.obfs4.ntor import AUTH_BYTES, Keys, hmac_sha256
from phantomband.transports.obfs4.replay import ReplayFilter

MAX_HANDSHAKE = 8192
"""Bytes of either side's handshake."""

MARK_BYTES = 16
MAC_BYTES = 16

SEED_FRAME_BYTES = PACKET_OVERHEAD + SEED_BYTES
"""The server's first frame, which follows its handshake at once, without padding: 45 bytes."""

_CLIENT_BYTES = REPRESENTATIVE_BYTES + MARK_BYTES + MAC_BYTES
_SERVER_BYTES = _CLIENT_BYTES + AUTH_BYTES

CLIENT_PADDING = (_SERVER_BYTES + SEED_FRAME_BYTES - _CLIENT_BYTES, MAX_HANDSHAKE - _CLIENT_BYTES)
"""Bytes, least and most: the shortest request is as long as the shortest answer with its frame."""

SERVER_PADDING = (0, MAX_HANDSHAKE - _SERVER_BYTES - SEED_FRAME_BYTES)

HOUR = 3600
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What the server has when its handshake is done."""

    keys: Keys
    reply: bytes
    """To be sent, with the frame of the seed behind it in one piece."""


@dataclass(frozen=True, slots=True)
class Finished:
    """What the client has when its handshake is done."""

    keys: Keys
    rest: bytes
    """Frames that came with the answer."""


class ClientHandshake:
    """Args: now: seconds since 1970; random: of the padding."""

    def __init__(self, server: Certificate, mine: HiddenKeys, now: float, random: RandomSource) -> None:
        self._server, self._mine = server, mine
        self._hour = _hour(now, 0)
        self._received = b""
        self._mark = b""
        head = mine.representative + random(_between(CLIENT_PADDING, random)) + _tag(server, mine.representative)
        self.hello = head + _tag(server, head, self._hour)
        """To be sent first."""

    def receive_untrusted(self, data: bytes) -> Finished | None:
        """Takes what the server sent; None: more is needed.

        Raises:
            Forged: not the server's.
        """
        self._received += data
        least = REPRESENTATIVE_BYTES + AUTH_BYTES
        if len(self._received) < _SERVER_BYTES:
            return None
        self._mark = self._mark or _tag(self._server, self._received[:REPRESENTATIVE_BYTES])
        at = self._received.find(self._mark, least, MAX_HANDSHAKE - MAC_BYTES)
        end = at + MARK_BYTES + MAC_BYTES
        if at < 0 or end > len(self._received):
            if len(self._received) >= MAX_HANDSHAKE:
                raise Forged("the server's answer has no mark")
            return None
        return Finished(self._verify_untrusted(end), self._received[end:])

    def _verify_untrusted(self, end: int) -> Keys:
        answer = self._received[:end]
        mac = _tag(self._server, answer[:-MAC_BYTES], self._hour)
        if not hmac.compare_digest(mac, answer[-MAC_BYTES:]):
            raise Forged("the server's MAC does not verify")
        keys = ntor.client_untrusted(self._server, self._mine, reveal(answer[:REPRESENTATIVE_BYTES]))
        if not hmac.compare_digest(keys.auth, answer[REPRESENTATIVE_BYTES : REPRESENTATIVE_BYTES + AUTH_BYTES]):
            raise Forged("the server does not know its key")
        return keys


class ServerHandshake:
    """Args:
    take_keys: gives a pair that is used once; called for a client that has the certificate, so that others cost
        little and learn nothing from its time.
    seen: of all handshakes of this identity.
    random: of the padding.
    """

    def __init__(
        self, identity: Identity, take_keys: Callable[[], HiddenKeys], seen: ReplayFilter, random: RandomSource
    ) -> None:
        self._identity, self._take_keys, self._seen, self._random = identity, take_keys, seen, random
        self._certificate = identity.certificate
        self._received = b""
        self._mark = b""

    def receive_untrusted(self, data: bytes, now: float) -> Answered | None:
        """Takes what one read gave; None: more is needed.

        Args:
            data: at most 8,192 bytes. A client waits for the answer, so its mark ends what was read, or there is none.
            now: seconds since 1970.

        Raises:
            Forged: no client of ours. Nothing may be answered.
        """
        self._received += data
        size = len(self._received)
        if size < _CLIENT_BYTES:
            return None
        self._mark = self._mark or _tag(self._certificate, self._received[:REPRESENTATIVE_BYTES])
        end = min(size, MAX_HANDSHAKE)
        at = end - MAC_BYTES - MARK_BYTES
        if at < REPRESENTATIVE_BYTES + CLIENT_PADDING[0] or not hmac.compare_digest(
            self._received[at : at + MARK_BYTES], self._mark
        ):
            if size >= MAX_HANDSHAKE:
                raise Forged("the client's request has no mark")
            return None
        hour = self._verify_untrusted(self._received[:end], now)
        if size != end:
            raise Forged("a client sent more than its request")
        return self._answer_untrusted(hour)

    def _verify_untrusted(self, request: bytes, now: float) -> bytes:
        """Returns: the hour that the client's clock has."""
        found = b""
        # "Implementations MUST derive and compare multiple values of MAC_C": all three, whichever fits.
        for offset in (0, -1, 1):
            hour = _hour(now, offset)
            mac = _tag(self._certificate, request[:-MAC_BYTES], hour)
            if hmac.compare_digest(mac, request[-MAC_BYTES:]):
                found = hour
        if not found:
            raise Forged("the client's MAC does not verify")
        self._seen.add_untrusted(request[-MAC_BYTES:], now)
        return found

    def _answer_untrusted(self, hour: bytes) -> Answered:
        mine = self._take_keys()
        keys = ntor.server_untrusted(self._identity, mine, reveal(self._received[:REPRESENTATIVE_BYTES]))
        padding = self._random(_between(SERVER_PADDING, self._random))
        head = mine.representative + keys.auth + padding + _tag(self._certificate, mine.representative)
        return Answered(keys, head + _tag(self._certificate, head, hour))


def _tag(server: Certificate, *parts: bytes) -> bytes:
    """HMAC-SHA256-128(B | NODEID, parts)."""
    return hmac_sha256(server.mac_key, *parts)[:MAC_BYTES]


def _hour(now: float, offset: int) -> bytes:
    """E, the hours since 1970 in decimal digits."""
    return str(int(now) // HOUR + offset).encode()


def _between(limits: tuple[int, int], random: RandomSource) -> int:
    """Uniform from the least to the most; four bytes for some 8,000 values: the bias is below 2^-18."""
    least, most = limits
    return least + int.from_bytes(random(4), "big") % (most - least + 1)
