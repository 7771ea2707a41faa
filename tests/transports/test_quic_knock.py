"""The tunnel on the port of `quic` that only the knock opens, and what bounds its visitors."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import h3_rig
import pytest
import web_rig
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from h3_rig import Visitor, headers, lines_of, visitor
from phantomband.core.errors import Refused, UserError
from phantomband.transports.base import Address, Buffer, Connection
from phantomband.transports.quic import gate, request
from phantomband.transports.quic import visitor as visiting
from phantomband.transports.quic.transport import QuicTransport
from phantomband.transports.website import server as web
from phantomband.transports.website.knock import KNOCK_BYTES, secret_file
from quic_site import BIG, GENERAL, LOAD, NO_ERROR, Rig, folder

PAGE = headers(lines_of())


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, site=str(folder(tmp_path)))


class Answered:
    def __init__(self, connection: Connection) -> None:
        self.connection, self.data = connection, bytearray()
        self.changed, self.ended = asyncio.Event(), asyncio.Event()

    def received(self, data: Buffer) -> None:
        self.data += data
        self.changed.set()

    def writable(self) -> None: ...

    def closed(self, error: Exception | None) -> None:
        self.ended.set()


async def dial(rig: Rig) -> Answered:
    ends: list[Answered] = []

    def accept(connection: Connection) -> Answered:
        ends.append(Answered(connection))
        connection.write(b"hello")
        return ends[0]

    await QuicTransport().dial(Address("quic", web_rig.LOOPBACK, rig.port, rig.transport.parameters()), accept, 20)
    await ends[0].changed.wait()
    return ends[0]


def test_the_knock_opens_the_tunnel_and_nothing_else_does(rig: Rig) -> None:
    async def main(rig: Rig) -> None:
        end = await dial(rig)
        assert end.data == b"hello"
        for length in (0, 1, 8, KNOCK_BYTES - 1):
            wrong = bytes((*rig.knock[:length], *(byte ^ 1 for byte in rig.knock[length:]))) + b"hello"
            async with visitor(rig.port) as v:
                v.send(0, wrong, True)
                await v.until(lambda: v.answer(0).over or v.closed is not None)
                v.send(4, rig.knock + b"hello", True)  # not on stream 0
                await v.until(lambda: v.answer(4).over or v.closed is not None)
                assert v.answer(4).lines == []
                v.send(8, PAGE, True)
                await v.until(lambda: v.answer(8).over)
                assert v.answer(8).status == "200"
        assert len(rig.tunnels) == 1
        end.connection.close()
        await end.ended.wait()

    rig.run(main)


@pytest.mark.parametrize("length", range(1, KNOCK_BYTES))
def test_a_bare_beginning_of_the_knock_is_answered_as_the_same_bytes_with_another_end(rig: Rig, length: int) -> None:
    """Waiting for the rest, where a web server answers, told a prober the secret byte by byte."""

    async def main(rig: Rig) -> None:
        right = rig.knock[:length]
        for first in (right, bytes((*right[:-1], right[-1] ^ 1))):
            async with visitor(rig.port) as v:
                v.send(0, first)
                await v.get("/sub/")  # whatever the first bytes lead to has happened by then
                v.send(0, rig.knock[length:] + b"hello")
                assert (await v.get("/sub/")).status == "200" or v.closed is not None
        assert not rig.tunnels

    rig.run(main)


def test_half_a_knock_is_a_request_that_does_not_come(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request, "HEAD_SECONDS", 0.2)

    async def main(rig: Rig) -> None:
        for first in (rig.knock[:8], PAGE[:8]):
            async with visitor(rig.port) as v:
                v.send(0, first)
                await v.until(lambda: v.answer(0).over and v.answer(0).stopped is not None)
                assert (v.answer(0).reset, v.answer(0).stopped) == (GENERAL, NO_ERROR)
                assert (await v.get("/sub/")).status == "200"
        async with visitor(rig.port) as v:
            v.send(0, rig.knock[:8], True)
            await v.until(lambda: v.answer(0).over)
            assert v.answer(0).reset is not None
        assert not rig.tunnels

    rig.run(main)


def test_an_address_without_a_knock_is_refused() -> None:
    async def main() -> None:
        with pytest.raises(Refused, match="knock="):
            await QuicTransport().dial(Address("quic", "127.0.0.1", 1), web_rig.Echo, 1)

    asyncio.run(main())


# limits


def test_a_connection_has_so_many_requests(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visiting, "MAX_REQUESTS", 5)

    async def main(rig: Rig) -> None:
        async with visitor(rig.port) as v:
            for _ in range(5):
                assert (await v.get()).status == "200"
            assert v.raw[3].endswith(b"\x07\x01\x14"), "GOAWAY"
            await v.get()
            assert v.closed == (NO_ERROR, "reached maximum number of requests")

    rig.run(main)


def test_a_quiet_visitor_is_closed(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visiting, "KEEP_SECONDS", 0.2)

    async def main(rig: Rig) -> None:
        async with visitor(rig.port) as v:
            assert (await v.get()).status == "200"
            await v.until(lambda: v.closed is not None)
            assert v.closed == (NO_ERROR, "keepalive timeout")

    rig.run(main)


def test_visitors_are_bounded_and_keep_no_client_out(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "MAX_VISITORS", 2)

    async def main(rig: Rig) -> None:
        async with visitor(rig.port) as first, visitor(rig.port) as second:
            assert (await first.get()).status == "200"
            end = await dial(rig)
            await second.until(lambda: second.closed is not None)  # the one that was quiet longest
            async with visitor(rig.port) as third, visitor(rig.port):
                assert (await third.get()).status == "200"
                await first.until(lambda: first.closed is not None)
            end.connection.write(b" again")
            end.changed.clear()
            await end.changed.wait()
            assert end.data == b"hello again"

    rig.run(main)


def test_half_handshakes_keep_no_client_out(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "MAX_VISITORS", 4)

    async def main(rig: Rig) -> None:
        for _ in range(20):
            half = QuicConnection(configuration=QuicConfiguration(alpn_protocols=["h3"]))
            half.connect(("127.0.0.1", rig.port), 0.0)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                for data, _addr in half.datagrams_to_send(0.0):
                    sock.sendto(data, ("127.0.0.1", rig.port))
        assert (await dial(rig)).data == b"hello"

    rig.run(main)


def test_what_comes_out_of_order_is_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A visitor that keeps back the first byte of a stream has the rest kept for it, up to a bound."""
    monkeypatch.setattr(gate, "KEPT_BYTES", 100_000)

    async def main(rig: Rig) -> None:
        async with visitor(rig.port) as v:
            sender = v._quic._get_or_create_stream_for_send(0).sender
            sender.write(bytes(1_000_000))
            sender._pending.subtract(0, 1)
            v.transmit()
            await v.until(lambda: v.closed is not None)
            assert v.closed == (LOAD, "")

    rig.run(main)


def test_heads_that_wait_are_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visiting, "HELD_BYTES", 100_000)

    async def main(rig: Rig) -> None:
        async with visitor(rig.port) as v:
            for number in range(4):
                v.send(4 * number, b"\x01\x80\0\xff\xff" + bytes(40_000))
            await v.until(lambda: v.closed is not None)
            assert v.closed == (LOAD, "")

    rig.run(main)


def test_a_visitor_who_does_not_read_holds_little(rig: Rig) -> None:
    """What a site has given and the client has no room for."""
    gates: list[gate.GateProtocol] = []

    async def main(rig: Rig) -> None:
        async with visitor(rig.port, max_stream_data=2000, max_data=50_000) as v:
            v._quic._write_connection_limits = lambda *a, **k: None  # type: ignore[method-assign]
            for _ in range(20):
                v.ask(lines_of("/big.bin"))
            v.http = None
            await v.until(lambda: len(v.raw) > 10)
            server = rig.listener._server  # type: ignore[attr-defined]
            gates.extend(set(server._protocols.values()))
            assert 0 < max(g.unsent_on(None) for g in gates) < 2 * visiting.UNSENT_BYTES

    rig.run(main)


# parameters


def test_the_secret_lasts_and_is_ours_alone(tmp_path: Path) -> None:
    first, second = QuicTransport(), QuicTransport()
    first.configure(tmp_path, {})
    second.configure(tmp_path, {})
    assert first.parameters() == second.parameters()
    assert set(first.parameters()) == {"knock", "sni"}
    assert (tmp_path / secret_file("quic")).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("options", [{"path": "/x"}, {"plain": "yes"}, {"knock": "short"}, {"cert": "/nowhere"}])
def test_parameters_that_it_does_not_have(tmp_path: Path, options: dict[str, str]) -> None:
    with pytest.raises(UserError, match="quic"):
        QuicTransport().configure(tmp_path, options)


def test_a_certificate_of_ones_own(tmp_path: Path) -> None:
    cert, key = web_rig.certificate(tmp_path)
    (tmp_path / "other").mkdir()
    _, wrong = web_rig.certificate(tmp_path / "other")

    async def main(rig: Rig) -> None:
        async with visitor(rig.port) as v:
            shown = v._quic.tls._peer_certificate
            assert shown is not None
            assert shown.subject.rfc4514_string() == "CN=www.example.org"

    Rig(tmp_path, cert=str(cert), key=str(key)).run(main)
    with pytest.raises(UserError, match="belong together"):
        Rig(tmp_path, cert=str(cert), key=str(wrong)).run(main)


def test_without_a_folder_there_is_one_page(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        async with visitor(rig.port) as v:
            assert b"Welcome to nginx!" in (await v.get()).body
            assert (await v.get("/x")).status == "404"

    Rig(tmp_path).run(main)


# clients of other makes


@pytest.mark.parametrize("ids", [(0, 8), (0, 18), (8, 20), (20, 8)])
def test_clients_whose_connection_id_is_empty_or_long(
    rig: Rig, ids: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chrome and OpenSSL have none; others make up a longer one for us (RFC 9000, section 7.2)."""
    ours, theirs = ids
    made = h3_rig.Visitor.__init__

    def longer(self: Visitor, quic: object, stream_handler: object = None) -> None:
        made(self, quic, stream_handler)  # type: ignore[arg-type]
        self._quic._replenish_connection_ids = lambda: None  # type: ignore[method-assign]  # not where there is none
        self._quic._peer_cid.cid = os.urandom(theirs)
        self._quic._original_destination_connection_id = self._quic._peer_cid.cid

    monkeypatch.setattr(h3_rig.Visitor, "__init__", longer)

    async def main(rig: Rig) -> None:
        async with visitor(rig.port, connection_id_length=ours) as v:
            assert (await v.get("/big.bin")).body == BIG

    rig.run(main)
