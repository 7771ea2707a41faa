"""The doh tunnel through a real unbound, with case randomisation and QNAME minimisation on; with delay; with losses."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from delay_proxy import DelayProxy
from doh_rig import ZONE, End, Rig, rig
from unbound_rig import UNBOUND, Resolver, unbound

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(UNBOUND is None, reason="unbound IS NOT INSTALLED: tunnels through resolvers are not tested"),
]

DNSTT = 130_000
"""Bytes a second that its author publishes for dnstt through DNS over HTTPS."""


@dataclass
class Net:
    rig: Rig
    resolver: Resolver

    def port(self, via: str) -> int:
        return {"": self.rig.port, "doh": self.resolver.https}.get(via, self.resolver.port)


@asynccontextmanager
async def net(folder: Path) -> AsyncIterator[Net]:
    folder.chmod(0o755)
    async with rig(folder) as it:
        with unbound(folder, ZONE, it.dns_port) as resolver:
            yield Net(it, resolver)


def parameters(via: str, **more: str) -> dict[str, str]:
    return ({"via": via} if via else {}) | more


async def send(source: End, sink: End, size: int, seed: int) -> float:
    """Returns: bytes a second."""
    data = random.Random(seed).randbytes(size)
    start = time.monotonic()
    source.connection.write(data)
    await sink.until(size)
    assert hashlib.sha256(sink.data).digest() == hashlib.sha256(data).digest()
    sink.data.clear()
    return size / (time.monotonic() - start)


@pytest.mark.parametrize(
    ("via", "more"),
    [
        ("doh", {}), ("doh", {"method": "get"}), ("doh", {"rr": "null"}), ("udp", {}), ("tcp", {}),
        ("tcp", {"size": "16000"}),
    ],
    ids=["doh", "doh-get", "doh-null", "udp", "tcp", "tcp-large"],
)  # fmt: skip
def test_megabytes_both_ways_through_unbound(tmp_path: Path, via: str, more: dict[str, str]) -> None:
    """2 MB down, and up where it is the usual way; the ends close in order."""
    up = 2_000_000 if (via, more) == ("doh", {}) else 200_000

    async def main() -> None:
        async with asyncio.timeout(200), net(tmp_path) as it:
            end = await it.rig.dial(it.port(via), **parameters(via, **more))
            (far,) = it.rig.accepted
            print(via, more, "up", await send(end, far, up, 1), "down", await send(far, end, 2_000_000, 2), "B/s")
            end.connection.close()
            await far.until_closed()
            await end.until_closed()
            assert (end.ends, far.ends) == ([None], [None])

    asyncio.run(main())


@pytest.mark.parametrize(("via", "size", "least"), [("", 30_000_000, 8 * DNSTT), ("doh", 3_000_000, DNSTT)])
def test_speed_at_100_ms(tmp_path: Path, via: str, size: int, least: float) -> None:
    async def main() -> None:
        async with asyncio.timeout(200), net(tmp_path) as it, DelayProxy(("127.0.0.1", it.port(via)), 0.05) as proxy:
            end = await it.rig.dial(proxy.port, **parameters(via))
            speed = await send(it.rig.accepted[0], end, size, 1)
            print(via or "direct", "down", speed, "B/s")
            assert speed > least
            end.connection.abort()
            await end.until_closed()

    asyncio.run(main())


def test_speed_at_100_ms_between_resolver_and_node(tmp_path: Path) -> None:
    """Each label costs the resolver a round trip."""

    async def main() -> None:
        tmp_path.chmod(0o755)
        async with (
            asyncio.timeout(200),
            rig(tmp_path) as it,
            DelayProxy(("127.0.0.1", it.dns_port), 0.05) as far,
        ):
            with unbound(tmp_path, ZONE, far.port) as resolver:
                end = await it.dial(resolver.https, via="doh")
                down = await send(it.accepted[0], end, 3_000_000, 1)
                up = await send(end, it.accepted[0], 100_000, 2)
                print("far node: down", down, "up", up, "B/s")
                assert down > DNSTT
                end.connection.abort()
                await end.until_closed()

    asyncio.run(main())


@pytest.mark.parametrize("via", ["", "udp"])
@pytest.mark.timeout(500)
def test_ten_megabytes_at_5_percent_loss_and_200_ms(tmp_path: Path, via: str) -> None:
    async def main() -> None:
        target = 10_000_000
        async with (
            asyncio.timeout(400),
            net(tmp_path) as it,
            DelayProxy(("127.0.0.1", it.port(via)), 0.1, loss=0.05, seed=5) as proxy,
        ):
            end = await it.rig.dial(proxy.port, 20.0, **parameters(via))
            print(via or "direct", "down", await send(it.rig.accepted[0], end, target, 1), "B/s")
            assert proxy.lost > 100
            end.connection.abort()
            await end.until_closed()

    asyncio.run(main())


def test_a_resolver_that_restarts_does_not_end_the_session(tmp_path: Path) -> None:
    """The connection to it is lost, and with it queries; another one goes on."""

    async def main() -> None:
        async with asyncio.timeout(100), net(tmp_path) as it:
            first = DelayProxy(("127.0.0.1", it.resolver.https), 0.01)
            async with first:
                end = await it.rig.dial(first.port, via="doh")
                far = it.rig.accepted[0]
                far.connection.write(bytes(400_000))
                while len(end.data) < 100_000:
                    end.changed.clear()
                    await end.changed.wait()
            async with DelayProxy(first.target, 0.01, port=first.port):
                await end.until(400_000)
                end.connection.abort()
                await end.until_closed()

    asyncio.run(main())


def test_a_direct_connection_that_is_lost_is_renewed(tmp_path: Path) -> None:
    async def main() -> None:
        async with asyncio.timeout(100), rig(tmp_path) as it:
            relay: list[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = []

            async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                try:
                    while data := await reader.read(16384):
                        writer.write(data)
                        await writer.drain()
                except OSError:
                    pass
                writer.close()

            async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                there, back = await asyncio.open_connection("127.0.0.1", it.port)
                relay.append((writer, back))
                await asyncio.gather(carry(reader, back), carry(there, writer))

            server = await asyncio.start_server(accept, "127.0.0.1", 0)
            end = await it.dial(server.sockets[0].getsockname()[1])
            far = it.accepted[0]
            down, up = random.Random(1).randbytes(20_000_000), random.Random(2).randbytes(20_000_000)
            far.connection.write(down)
            end.connection.write(up)
            while len(end.data) < 1_000_000:
                end.changed.clear()
                await end.changed.wait()
            for writer in relay[0]:
                writer.transport.abort()
            await end.until(len(down))
            await far.until(len(up))
            assert (end.data, far.data) == (down, up)
            assert len(relay) == 2
            end.connection.abort()
            await end.until_closed()
            server.close()

    asyncio.run(main())
