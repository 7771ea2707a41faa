"""While many QUIC handshakes are half done, a client shows first that its address is its own."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest
import web_rig
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from h3_rig import headers, lines_of, visitor
from hypothesis import given
from hypothesis import strategies as st
from phantomband.transports.base import Address, Buffer, Connection
from phantomband.transports.quic.retry import HALF_OPEN, PRESSED_SECONDS, TOKEN_SECONDS, HalfOpen, RetryTokens
from phantomband.transports.quic.server import Server
from phantomband.transports.quic.transport import QuicTransport
from quic_site import Rig, folder
from world import Seeded

HERE, THERE = ("192.0.2.1", 443), ("192.0.2.2", 443)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class End:
    """A client's end of a link that waits for its first bytes."""

    def __init__(self, connection: Connection) -> None:
        self.came = asyncio.Event()
        connection.write(b"hello")

    def received(self, data: Buffer) -> None:
        self.came.set()

    def writable(self) -> None: ...

    def closed(self, error: Exception | None) -> None: ...


def first_packets(count: int, port: int) -> None:
    """Clients that send their first packet and are never heard of again."""
    for _ in range(count):
        client = QuicConnection(configuration=QuicConfiguration(alpn_protocols=["h3"], server_name="www.example.org"))
        client.connect((web_rig.LOOPBACK, port), now=0.0)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for data, _ in client.datagrams_to_send(now=0.0):
                sock.sendto(data, (web_rig.LOOPBACK, port))


async def dial(rig: Rig) -> None:
    ends: list[End] = []

    def accept(connection: Connection) -> End:
        ends.append(End(connection))
        return ends[0]

    address = Address("quic", web_rig.LOOPBACK, rig.port, rig.transport.parameters())
    await QuicTransport().dial(address, accept, 20)
    await ends[0].came.wait()


def test_half_open_connections_are_bounded_and_real_clients_come_through(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        server: Server = rig.listener._server  # type: ignore[attr-defined]
        await dial(rig)
        assert len(server.half_open) == 0
        assert server._retry is None, "nobody pays for a round trip more"
        first_packets(HALF_OPEN + 40, rig.port)
        await dial(rig)  # ours, behind them in the socket's queue
        assert len(server.half_open) <= HALF_OPEN
        assert server.half_open.pressed
        async with visitor(rig.port) as v:  # another implementation
            v.send(0, headers(lines_of()), True)
            await v.until(lambda: v.answer(0).over)
            assert v.answer(0).status == "200"
        assert len(rig.tunnels) == 2

    Rig(tmp_path, site=str(folder(tmp_path))).run(main)


def test_tokens_are_good_for_one_address_and_a_short_time() -> None:
    clock = Clock()
    tokens = RetryTokens(Seeded(1), clock)
    ids = b"client's", b"our's id"
    token = tokens.create_token(HERE, *ids)
    assert tokens.validate_token(HERE, token) == ids
    for other in (THERE, (HERE[0], 444)):
        with pytest.raises(ValueError, match="this address"):
            tokens.validate_token(other, token)
    with pytest.raises(ValueError, match="this address"):
        RetryTokens(os.urandom, clock).validate_token(HERE, token)
    clock.now += TOKEN_SECONDS
    with pytest.raises(ValueError, match="old"):
        tokens.validate_token(HERE, token)


@given(st.binary(max_size=80), st.integers(0, 50))
def test_any_other_bytes_are_refused_with_the_declared_error(junk: bytes, at: int) -> None:
    tokens = RetryTokens(Seeded(1), Clock())
    token = bytearray(tokens.create_token(HERE, bytes(8), bytes(8)))
    token[at % len(token)] ^= 1
    for wrong in (junk, bytes(token), bytes(token)[: at % len(token)]):
        with pytest.raises(ValueError, match="token"):
            tokens.validate_token(HERE, wrong)


def test_addresses_are_validated_while_pressed_and_as_long_as_tokens_are_out() -> None:
    clock = Clock()
    half = HalfOpen(clock, most=2)
    half.add("a")
    assert not half.pressed
    half.add("b")
    assert half.pressed
    half.discard("a")
    clock.now += PRESSED_SECONDS - 1
    assert half.pressed
    clock.now += 1
    assert not half.pressed
