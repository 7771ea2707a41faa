"""obfs4 in both roles, wire-compatible with obfs4proxy 0.0.14 and lyrebird 0.8.

A port that speaks it answers nothing to whoever has no certificate. A handshake that fails is read on, and closed when
30 seconds and the server's own delay of 0 to 59 have passed, counted from its beginning: the same whatever was sent,
as obfs4proxy does since 0.0.11. No count of bytes ends it, since that number can be found by trying (Frolov, Wampler
and Wustrow, "Detecting probe-resistant proxies", 2020).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from phantomband.core.errors import Forged, Malformed, Refused, UserError
from phantomband.transports.base import Accept, Address, Connection, Listener, Transport, one_setting
from phantomband.transports.dialing import dial_over
from phantomband.transports.layered import Settled
from phantomband.transports.obfs4 import elligator, identity
from phantomband.transports.obfs4.connection import Obfs4Connection, Ready
from phantomband.transports.obfs4.drbg import SEED_BYTES, Drbg
from phantomband.transports.obfs4.elligator import HiddenKeys, RandomSource
from phantomband.transports.obfs4.framing import TYPE_SEED, Opener, Sealer
from phantomband.transports.obfs4.handshake import ClientHandshake, ServerHandshake
from phantomband.transports.obfs4.identity import Certificate, Identity
from phantomband.transports.obfs4.replay import ReplayFilter
from phantomband.transports.obfs4.shaper import IatMode, Shaper
from phantomband.transports.tcp.connection import StreamConnection
from phantomband.transports.tcp.proxy import Proxy
from phantomband.transports.tcp.transport import TcpTransport

CERT_PARAMETER = "cert"
IAT_PARAMETER = "iat_mode"
"""Names of parameters in addresses have no hyphens; bridge lines and configurations say `iat-mode`."""

KEY_FILE = "obfs4.key"

HANDSHAKE_SECONDS = 30.0
"""That a client has for its handshake (obfs4proxy)."""

MAX_CLOSE_DELAY = 60
"""Seconds: bound of what a server adds before it closes a connection that failed (obfs4proxy)."""

MAX_HANDSHAKES = 1024
"""Connections of one listener without a handshake, those included that failed; at the bound the oldest is closed.

A real client is done within a round trip and so is never the oldest, unless over a thousand others come in that
time."""

READY_KEYS = 8
"""Key pairs made ahead, so that answering takes the same time whatever Elligator's luck."""

KEEP_ALIVE_SECONDS = 15
"""Go's default for sockets, and so how often obfs4proxy probes a silent peer: seen on the wire."""


class Obfs4Transport(Transport):
    """obfs4 over TCP.

    Args:
        random: source of everything random.
        clock: seconds since 1970; handshakes hold for an hour more or less.
        proxy: dialled instead of each server, see `tcp.proxy`.
    """

    name = "obfs4"

    def __init__(
        self,
        random: RandomSource = os.urandom,
        clock: Callable[[], float] = time.time,
        proxy: Proxy | None = None,
    ) -> None:
        self._tcp = TcpTransport(proxy)
        self._random, self._clock = random, clock
        self._identity: Identity | None = None
        self._mode: IatMode | None = None

    def configure(self, folder: Path, options: Mapping[str, str]) -> None:
        """The identity is that in `folder`/obfs4.key; `iat_mode` is the only option."""
        unknown = sorted(set(options) - {IAT_PARAMETER, CERT_PARAMETER})
        if unknown:
            raise UserError(f"obfs4 has no parameter {unknown[0]!r}. Write obfs4://IP:PORT?iat-mode=0")
        try:
            mode = iat_mode_untrusted(options)
        except Malformed as e:
            raise UserError(f"obfs4: {e}. Write obfs4://IP:PORT?iat-mode=0") from None
        one_setting(self.name, self._mode, mode, "iat-mode")
        self._mode = mode
        self._identity = identity.load_or_create(folder / KEY_FILE, self._random)

    def use(self, who: Identity, mode: IatMode) -> None:
        """Instead of `configure`, for whoever keeps the identity elsewhere."""
        self._identity, self._mode = who, mode

    def parameters(self) -> Mapping[str, str]:
        if self._identity is None:
            return {}
        return {CERT_PARAMETER: self._identity.certificate.text, IAT_PARAMETER: str(int(self._mode or 0))}

    # the client's side

    async def dial(self, address: Address, accept: Accept, timeout: float) -> Connection:
        try:
            server, mode = _server_untrusted(address.parameters)
        except Malformed as e:
            raise Refused(str(e)) from None
        # Before there is a connection: how long it takes would show.
        shake = ClientHandshake(server, elligator.generate(self._random), self._clock(), self._random)

        def step(data: bytes) -> Ready | None:
            done = shake.receive_untrusted(data)
            if done is None:
                return None
            shaper = Shaper(Sealer(done.keys.to_server), mode, self._random(SEED_BYTES), self._random)
            return Ready(shaper, Opener(done.keys.to_client, self._random), rest=done.rest, follow_seed=True)

        def over(lower: StreamConnection, settled: Settled) -> Obfs4Connection:
            return Obfs4Connection(_stream(lower), step, accept, settled, patient=False)

        def start(connection: Obfs4Connection) -> None:
            connection.begin(shake.hello)

        return await dial_over(self._tcp, address, timeout, "obfs4 handshake", over, start)

    # the server's side

    async def listen(self, host: str, port: int, accept: Accept) -> Listener:
        self._identity = self._identity or Identity(identity.new_secret(self._random))
        server = _Server(self._identity, self._mode or IatMode.OFF, accept, self._random, self._clock)
        listener = await self._tcp.listen(host, port, server.connected)
        server.refill()
        return listener


class _Server:
    """What the connections of one listener share.

    **Limits**: `MAX_HANDSHAKES` connections, `READY_KEYS` key pairs, the replay filter's.
    """

    def __init__(
        self, who: Identity, mode: IatMode, accept: Accept, random: RandomSource, clock: Callable[[], float]
    ) -> None:
        self._identity, self._mode, self._accept = who, mode, accept
        self._random, self._clock = random, clock
        self._loop = asyncio.get_running_loop()
        self._seen = ReplayFilter()
        self._keys: deque[HiddenKeys] = deque()
        self._refilling = False
        self._patience = HANDSHAKE_SECONDS + Drbg(who.seed).below(MAX_CLOSE_DELAY)
        self._shaking: dict[Connection, asyncio.TimerHandle] = {}

    def connected(self, lower: Connection) -> Obfs4Connection:
        """A new connection: not one of ours before its handshake is done."""
        stream = _stream(lower)
        while len(self._shaking) >= MAX_HANDSHAKES:
            oldest = next(iter(self._shaking))
            self._shaking.pop(oldest).cancel()
            oldest.abort()
        # Not an orderly close: a program that has ended its handshake closes the socket, and what comes is refused.
        self._shaking[lower] = self._loop.call_later(self._patience, lower.abort)

        def settled(error: Exception | None) -> None:
            timer = self._shaking.pop(lower, None)
            if timer is not None:
                timer.cancel()

        return Obfs4Connection(stream, self._shake(), self._accept, settled, patient=True)

    def _shake(self) -> Callable[[bytes], Ready | None]:
        shake = ServerHandshake(self._identity, self._take_keys, self._seen, self._random)
        end = self._loop.time() + HANDSHAKE_SECONDS

        def step(data: bytes) -> Ready | None:
            if self._loop.time() > end:
                raise Forged("the handshake took too long")
            done = shake.receive_untrusted(data, self._clock())
            if done is None:
                return None
            sealer = Sealer(done.keys.to_client)
            first = done.reply + sealer.packet(TYPE_SEED, self._identity.seed)
            shaper = Shaper(sealer, self._mode, self._identity.seed, self._random)
            return Ready(shaper, Opener(done.keys.to_server, self._random), first)

        return step

    def _take_keys(self) -> HiddenKeys:
        if not self._refilling:
            self._refilling = True
            self._loop.call_soon(self.refill)
        return self._keys.popleft() if self._keys else elligator.generate(self._random)

    def refill(self) -> None:
        """Makes one pair an iteration of the loop, until there are enough."""
        self._refilling = len(self._keys) < READY_KEYS
        if self._refilling:
            self._keys.append(elligator.generate(self._random))
            self._loop.call_soon(self.refill)


def iat_mode_untrusted(parameters: Mapping[str, str]) -> IatMode:
    """Raises: Malformed: there is no such mode."""
    text = parameters.get(IAT_PARAMETER, "0")
    if text not in ("0", "1", "2"):
        raise Malformed("iat-mode must be 0, 1 or 2")
    return IatMode(int(text))


def _server_untrusted(parameters: Mapping[str, str]) -> tuple[Certificate, IatMode]:
    if CERT_PARAMETER not in parameters:
        raise Malformed("the address has no obfs4 certificate (cert=)")
    return Certificate.parse_untrusted(parameters[CERT_PARAMETER]), iat_mode_untrusted(parameters)


def _stream(lower: Connection) -> StreamConnection:
    """A TCP connection, kept alive as obfs4proxy's are."""
    assert isinstance(lower, StreamConnection)  # noqa: S101  (our own TcpTransport gives no other)
    lower.keep_alive(KEEP_ALIVE_SECONDS)
    return lower
