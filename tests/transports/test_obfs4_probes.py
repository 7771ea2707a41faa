"""Who has no certificate, or only a recording, learns nothing; and what they can hold of us is bounded."""

from __future__ import annotations

import asyncio
import random
import shutil
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import managed_pt
import pytest
from phantomband.core.errors import Refused, UserError
from phantomband.transports.base import Address, Connection, Listener
from phantomband.transports.obfs4 import elligator, identity, transport
from phantomband.transports.obfs4.drbg import Drbg
from phantomband.transports.obfs4.handshake import ClientHandshake
from phantomband.transports.obfs4.identity import Certificate
from phantomband.transports.obfs4.transport import CERT_PARAMETER, Obfs4Transport

PATIENCE = 60.0
DICE = random.Random(8)

Probe = Callable[[socket.socket, bytes], Coroutine[None, None, None]]


class Silent:
    def received(self, data: object) -> None: ...

    def writable(self) -> None: ...

    def closed(self, error: Exception | None) -> None: ...


@dataclass(slots=True)
class Rig:
    transport: Obfs4Transport
    listener: Listener
    accepted: list[Connection]

    @property
    def certificate(self) -> Certificate:
        return Certificate.parse_untrusted(self.transport.parameters()[CERT_PARAMETER])

    def hello(self) -> bytes:
        return hello(self.certificate)

    async def dial(self) -> Connection:
        address = Address("obfs4", "127.0.0.1", self.listener.port, self.transport.parameters())
        return await Obfs4Transport().dial(address, lambda connection: Silent(), 10)


def hello(certificate: Certificate) -> bytes:
    keys = elligator.generate(DICE.randbytes)
    return ClientHandshake(certificate, keys, time.time(), DICE.randbytes).hello


@asynccontextmanager
async def rig() -> AsyncIterator[Rig]:
    accepted: list[Connection] = []

    def accept(connection: Connection) -> Silent:
        accepted.append(connection)
        return Silent()

    ours = Obfs4Transport()
    listener = await ours.listen("127.0.0.1", 0, accept)
    async with asyncio.timeout(PATIENCE):
        yield Rig(ours, listener, accepted)
    await listener.close()


async def connected(port: int) -> socket.socket:
    s = socket.socket()
    s.setblocking(False)
    await asyncio.get_running_loop().sock_connect(s, ("127.0.0.1", port))
    return s


async def until_end(s: socket.socket) -> tuple[bytes, str]:
    """What came, and how it ended."""
    data = b""
    while True:
        try:
            part = await asyncio.get_running_loop().sock_recv(s, 65536)
        except ConnectionResetError:
            return data, "reset"
        if not part:
            return data, "end"
        data += part


async def send(s: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(s, data)


async def nothing(s: socket.socket, good: bytes) -> None: ...


async def random_bytes(s: socket.socket, good: bytes) -> None:
    await send(s, DICE.randbytes(1500))


async def many_bytes(s: socket.socket, good: bytes) -> None:
    await send(s, DICE.randbytes(50_000))


async def http(s: socket.socket, good: bytes) -> None:
    await send(s, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")


async def half_a_tls_hello(s: socket.socket, good: bytes) -> None:
    await send(s, bytes.fromhex("16030100c8010000c40303") + bytes(20))


async def half_a_handshake(s: socket.socket, good: bytes) -> None:
    await send(s, good[: len(good) // 2])


async def a_wrong_mac(s: socket.socket, good: bytes) -> None:
    await send(s, good[:-1] + bytes([good[-1] ^ 1]))


async def more_than_a_handshake(s: socket.socket, good: bytes) -> None:
    await send(s, good + b"x")


PROBES: dict[str, Probe] = {
    p.__name__: p
    for p in (
        nothing, random_bytes, many_bytes, http, half_a_tls_hello, half_a_handshake, a_wrong_mac, more_than_a_handshake
    )
}  # fmt: skip


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that fail are closed after 0.3 s."""
    monkeypatch.setattr(transport, "HANDSHAKE_SECONDS", 0.3)
    monkeypatch.setattr(transport, "MAX_CLOSE_DELAY", 1)


@pytest.mark.usefixtures("short")
def test_all_probes_end_alike() -> None:
    """No byte, an orderly end, at the same time after the beginning, whatever was sent."""

    async def scenario() -> None:
        async with rig() as it:

            async def run(probe: Probe) -> tuple[bytes, str]:
                with await connected(it.listener.port) as s:
                    start = time.monotonic()
                    await probe(s, it.hello())
                    ended = await until_end(s)
                    assert time.monotonic() - start >= 0.25
                    return ended

            for ended in await asyncio.gather(*(run(probe) for probe in PROBES.values())):
                assert ended == (b"", "end")
            assert not it.accepted

    asyncio.run(scenario())


@pytest.mark.usefixtures("short")
def test_a_replayed_handshake_gets_no_answer() -> None:
    async def scenario() -> None:
        async with rig() as it:
            good = it.hello()
            with await connected(it.listener.port) as first, await connected(it.listener.port) as second:
                await send(first, good)
                assert await asyncio.get_running_loop().sock_recv(first, 65536)
                await send(second, good)
                assert await until_end(second) == (b"", "end")
            assert len(it.accepted) == 1

    asyncio.run(scenario())


@pytest.mark.usefixtures("short")
def test_a_slow_handshake_does_not_count() -> None:
    """In pieces it is served in time, and half of it is not waited for longer."""

    async def scenario() -> None:
        async with rig() as it:
            good = it.hello()
            with await connected(it.listener.port) as s:
                for at in range(0, len(good), 200):
                    await send(s, good[at : at + 200])
                    await asyncio.sleep(0)
                assert await asyncio.get_running_loop().sock_recv(s, 65536)
            with await connected(it.listener.port) as s:
                await send(s, good[:100])
                assert await until_end(s) == (b"", "end")

    asyncio.run(scenario())


def test_who_ends_is_let_go_at_once() -> None:
    async def scenario() -> None:
        async with rig() as it:
            with await connected(it.listener.port) as s:
                await send(s, bytes(9000))
                s.shutdown(socket.SHUT_WR)
                assert await until_end(s) == (b"", "end")

    asyncio.run(scenario())


def test_connections_without_a_handshake_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest is closed; a client that has the certificate is served all the while."""
    monkeypatch.setattr(transport, "MAX_HANDSHAKES", 4)

    async def scenario() -> None:
        async with rig() as it:
            held = [await connected(it.listener.port) for _ in range(6)]
            for s in held[:2]:
                assert (await until_end(s))[0] == b""
            (await it.dial()).abort()
            with pytest.raises(BlockingIOError):
                held[5].recv(1)
            for s in held:
                s.close()

    asyncio.run(scenario())


def test_silent_peers_are_probed_by_the_system_as_by_go() -> None:
    async def scenario() -> None:
        async with rig() as it:
            client = await it.dial()
            sock = client._lower._transport.get_extra_info("socket")  # type: ignore[attr-defined]
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 15
            client.abort()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "parameters", [{}, {"cert": "x"}, {"cert": "A" * 70, "iat_mode": "3"}], ids=["none", "broken", "mode"]
)
def test_an_address_without_a_usable_certificate_is_refused(parameters: dict[str, str]) -> None:
    async def scenario() -> None:
        with pytest.raises(Refused):
            await Obfs4Transport().dial(Address("obfs4", "127.0.0.1", 1, parameters), lambda c: Silent(), 1)

    asyncio.run(scenario())


def test_a_listening_address_that_makes_no_sense_is_the_users_mistake(tmp_path: Path) -> None:
    ours = Obfs4Transport()
    for options in ({"iat_mode": "3"}, {"sni": "x"}):
        with pytest.raises(UserError, match="iat-mode"):
            ours.configure(tmp_path, options)
    ours.configure(tmp_path, {"iat_mode": "1"})
    with pytest.raises(UserError, match="one iat-mode"):
        ours.configure(tmp_path, {})
    assert ours.parameters()["iat_mode"] == "1"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("obfs4proxy") is None, reason="obfs4proxy is not installed")
def test_probes_cannot_tell_ours_from_obfs4proxy(tmp_path: Path) -> None:
    """The same probes at both, which have the same identity: the same bytes, ends and times (within 1.5 s)."""
    dice = random.Random(9)
    while Drbg((secret := dice.randbytes(identity.FILE_BYTES))[52:]).below(60) > 3:
        pass
    certificate = identity.Identity(secret).certificate
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "obfs4.key").write_bytes(secret)
    (tmp_path / "ours" / "obfs4.key").chmod(0o600)

    async def slow_loris(s: socket.socket, good: bytes) -> None:
        for at in range(40):
            await send(s, good[at : at + 1])
            await asyncio.sleep(0.5)

    async def half_open(s: socket.socket, good: bytes) -> None:
        s.shutdown(socket.SHUT_WR)

    probes = PROBES | {"slow loris": slow_loris, "half open": half_open}

    async def outcome(port: int, probe: Probe) -> tuple[bytes, str, float]:
        with await connected(port) as s:
            start = time.monotonic()
            await probe(s, hello(certificate))
            data, end = await until_end(s)
            return data, end, time.monotonic() - start

    async def scenario(theirs: int) -> None:
        ours = Obfs4Transport()
        ours.configure(tmp_path / "ours", {})
        listener = await ours.listen("127.0.0.1", 0, lambda connection: Silent())
        runs = [outcome(port, probe) for probe in probes.values() for port in (listener.port, theirs)]
        ended = await asyncio.gather(*runs)
        await listener.close()
        for name, mine, other in zip(probes, ended[::2], ended[1::2], strict=True):
            assert mine[:2] == other[:2], name
            assert mine[0] == b""
            assert abs(mine[2] - other[2]) < 1.5, (name, mine[2], other[2])

    options = f"node-id={secret[:20].hex()};private-key={secret[20:52].hex()};drbg-seed={secret[52:].hex()};iat-mode=0"
    with (
        socket.create_server(("127.0.0.1", 0)) as behind,
        managed_pt.server("obfs4proxy", tmp_path / "theirs", behind.getsockname()[1], options) as method,
    ):
        asyncio.run(scenario(method.port))
