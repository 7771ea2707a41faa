"""The port of `tls` beside a real nginx: the same bytes and ends for a visitor, and a tunnel only for who knocks."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import web_rig
from phantomband.core.errors import Refused, UserError
from phantomband.transports.base import Address, Buffer, Connection
from phantomband.transports.tls.transport import TlsTransport
from phantomband.transports.website.knock import KNOCK_BYTES, knock_untrusted, secret_file
from web_requests import REQUESTS, folder, masked

DICE = random.Random(5)


class Answered:
    def __init__(self) -> None:
        self.answered = asyncio.Event()

    def received(self, data: Buffer) -> None:
        self.answered.set()

    def writable(self) -> None: ...

    def closed(self, error: Exception | None) -> None: ...


@pytest.mark.slow
@pytest.mark.skipif(web_rig.NGINX is None, reason="nginx is not installed: nothing to compare with")
class TestBesideNginx:
    """The same probes to both."""

    @pytest.fixture(scope="class")
    @classmethod
    def pair(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int, web_rig.Ours]]:
        tmp = tmp_path_factory.mktemp("tls")
        root = folder(tmp)
        cert, key = web_rig.certificate(tmp)
        server = f"listen {web_rig.LOOPBACK}:PORT ssl; ssl_certificate {cert}; ssl_certificate_key {key}; root {root};"
        server += " ssl_protocols TLSv1.2 TLSv1.3;"
        options = {"site": str(root), "cert": str(cert), "key": str(key)}
        with ExitStack() as stack:
            mine = stack.enter_context(web_rig.ours(tmp / "gateway", options, TlsTransport()))
            yield mine.port, stack.enter_context(web_rig.nginx(tmp, server)), mine

    @pytest.mark.parametrize("name", list(REQUESTS))
    def test_requests(self, pair: tuple[int, int, web_rig.Ours], name: str) -> None:
        both(pair, REQUESTS[name])

    @pytest.mark.parametrize("size", [1, 2, 15, 16, 17, 100, 1500, 9000])
    def test_random_bytes_inside_tls(self, pair: tuple[int, int, web_rig.Ours], size: int) -> None:
        both(pair, bytes((DICE.randrange(128, 256), *DICE.randbytes(size - 1))))

    def test_a_wrong_end_of_the_secret_is_a_visitor(self, pair: tuple[int, int, web_rig.Ours]) -> None:
        knock = knock_untrusted(pair[2].parameters)
        for length in (1, 8, KNOCK_BYTES - 1):
            wrong = bytes((*knock[:length], *(byte ^ 1 for byte in knock[length:]))) + b"\r\n\r\n"
            both(pair, wrong)
        assert not pair[2].tunnels

    @pytest.mark.parametrize("length", range(1, KNOCK_BYTES))
    def test_a_bare_beginning_of_the_secret_is_answered_as_nginx_answers_it(
        self, pair: tuple[int, int, web_rig.Ours], length: int
    ) -> None:
        """Silence, where nginx answers, told a prober the secret byte by byte."""
        beginning = knock_untrusted(pair[2].parameters)[:length]
        both(pair, beginning + b"\r\n\r\n")
        said = []
        for port in pair[:2]:
            with web_rig.tls_socket(port) as sock:
                sock.sendall(beginning)
                sock.settimeout(0.3)
                try:
                    said.append(masked(sock.recv(65536), port)[:20])
                except TimeoutError:
                    said.append(b"")
        assert said[0] == said[1]

    def test_a_replayed_session_opens_nothing(self, pair: tuple[int, int, web_rig.Ours]) -> None:
        """Another TLS connection has other keys: what was recorded is noise to it."""
        mine = pair[2]
        sent = bytearray()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        tls = context.wrap_bio(incoming, outgoing, server_hostname="www.example.org")
        said, answer = knock_untrusted(mine.parameters) + b"hello", b""
        with socket.create_connection((web_rig.LOOPBACK, mine.port), web_rig.PATIENCE) as sock:
            while answer != b"hello":
                try:
                    tls.do_handshake()
                    if said:
                        tls.write(said)
                        said = b""
                    while answer != b"hello":
                        answer += tls.read(65536)  # its records are cut at random
                except ssl.SSLWantReadError:
                    pass
                ours = outgoing.read()
                sent += ours
                sock.sendall(ours)
                if answer != b"hello":
                    incoming.write(sock.recv(65536))
        opened = len(mine.tunnels)
        assert opened == 1
        with socket.create_connection((web_rig.LOOPBACK, mine.port), web_rig.PATIENCE) as sock:
            again, ended = web_rig.talk(sock, bytes(sent))  # type: ignore[arg-type]
        assert ended
        assert b"HTTP" not in again
        assert len(mine.tunnels) == opened

    def test_a_thousand_that_say_nothing_keep_nobody_out(self, pair: tuple[int, int, web_rig.Ours]) -> None:
        mine = pair[2]
        held = [socket.create_connection(("127.0.0.1", mine.port), 20) for _ in range(1100)]
        try:
            with web_rig.tls_socket(mine.port) as sock:
                answer, _ = web_rig.talk(sock, REQUESTS["page"])
                assert answer.startswith(b"HTTP/1.1 200 OK")
            address = Address("tls", web_rig.LOOPBACK, mine.port, mine.parameters)

            async def dial() -> None:
                ends: list[Answered] = []

                def accept(connection: Connection) -> Answered:
                    ends.append(Answered())
                    return ends[0]

                connection = await TlsTransport().dial(address, accept, 20)
                connection.write(b"x")
                await asyncio.wait_for(ends[0].answered.wait(), 20)
                connection.abort()

            asyncio.run(dial())
        finally:
            for s in held:
                s.close()


def both(pair: tuple[int, int, web_rig.Ours], data: bytes) -> None:
    """The same from ours and from nginx."""
    answers = []
    for port in pair[:2]:
        with web_rig.tls_socket(port) as sock:
            answer, ended = web_rig.talk(sock, data)
            answers.append((masked(answer, port), ended))
    assert answers[0] == answers[1]


def test_the_secret_lasts_and_is_ours_alone(tmp_path: Path) -> None:
    first, second = TlsTransport(), TlsTransport()
    first.configure(tmp_path, {})
    second.configure(tmp_path, {})
    assert first.parameters() == second.parameters()
    assert (tmp_path / secret_file("tls")).stat().st_mode & 0o777 == 0o600
    (tmp_path / secret_file("tls")).chmod(0o644)
    with pytest.raises(UserError, match="chmod 600"):
        TlsTransport().configure(tmp_path, {})


@pytest.mark.parametrize("options", [{"path": "/x"}, {"plain": "yes"}, {"knock": "short"}, {"cert": "/nowhere"}])
def test_parameters_that_it_does_not_have(tmp_path: Path, options: dict[str, str]) -> None:
    with pytest.raises(UserError, match="tls"):
        TlsTransport().configure(tmp_path, options)


def test_an_address_without_a_secret_is_refused() -> None:
    async def main() -> None:
        with pytest.raises(Refused, match="knock="):
            await TlsTransport(os.urandom).dial(Address("tls", "127.0.0.1", 1), web_rig.Echo, 1)

    asyncio.run(main())
