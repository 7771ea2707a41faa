"""The same probes to our port and to a real nginx with the same folder: the same bytes, and the same ends."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import web_rig
from phantomband.transports.browser.tls import Use, client_context
from web_requests import CHROME, HOST, REQUESTS, UPGRADE, folder, masked

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(web_rig.NGINX is None, reason="nginx is not installed: nothing to compare with"),
]

Pair = tuple[int, int, web_rig.Ours]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Ports of ours and of nginx: same folder, same certificate."""
    tmp = tmp_path_factory.mktemp("probes")
    root = folder(tmp)
    cert, key = web_rig.certificate(tmp)
    server = f"listen {web_rig.LOOPBACK}:PORT ssl; ssl_certificate {cert}; ssl_certificate_key {key}; root {root};"
    server += " ssl_protocols TLSv1.2 TLSv1.3;"  # what everybody sets, and what newer versions have by themselves
    options = {"site": str(root), "cert": str(cert), "key": str(key)}
    with ExitStack() as stack:
        mine = stack.enter_context(web_rig.ours(tmp / "gateway", options))
        yield mine.port, stack.enter_context(web_rig.nginx(tmp, server)), mine


@pytest.mark.parametrize("name", list(REQUESTS))
def test_requests_are_answered_as_by_nginx(pair: Pair, name: str) -> None:
    answers = []
    for port in pair[:2]:
        with web_rig.tls_socket(port) as sock:
            answer, ended = web_rig.talk(sock, REQUESTS[name])
            answers.append((masked(answer, port), ended))
    assert answers[0] == answers[1]


PLAIN = {
    "HTTP to the TLS port": b"GET / HTTP/1.1\r\n" + HOST + b"\r\n",
    "HTTP of Chrome": b"GET / HTTP/1.1\r\n" + HOST + CHROME + b"\r\n",
    "random": b"\x51" + bytes(range(7, 200)),
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "zeros": bytes(64),
    "a TLS record of nonsense": b"\x16\x03\x01\x00\x20" + bytes(32),
    "a TLS alert": b"\x15\x03\x01\x00\x02\x02\x28",
    "an old hello": b"\x80\x2e\x01\x03\x01" + bytes(50),
    "half a hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "nothing": b"",
}


@pytest.mark.parametrize("name", list(PLAIN))
def test_what_is_not_tls_is_answered_as_by_nginx(pair: Pair, name: str) -> None:
    answers = []
    for port in pair[:2]:
        with socket.create_connection((web_rig.LOOPBACK, port)) as sock:
            answer, ended = web_rig.talk(sock, PLAIN[name])
            answers.append((masked(answer, port), ended))
    assert answers[0] == answers[1]


def server_side(port: int, context: ssl.SSLContext, name: str | None = "www.example.org") -> list[tuple[int, int]]:
    """Types and lengths of the records that a server sends to `context`'s hello, and to nothing more."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    with socket.create_connection((web_rig.LOOPBACK, port)) as sock:
        answer, ended = web_rig.talk(sock, outgoing.read())
    return [(-1, int(ended)), *sizes(answer)]


def plain_context(**changes: object) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    for name, value in changes.items():
        setattr(context, name, value)
    return context


def contexts() -> dict[str, ssl.SSLContext]:
    alpn = {name: plain_context() for name in ("h2", "http/1.1", "http/1.0", "acme-tls/1")}
    for name, context in alpn.items():
        context.set_alpn_protocols([name])
    ciphers = plain_context(maximum_version=ssl.TLSVersion.TLSv1_2)
    ciphers.set_ciphers("AES128-SHA:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305")
    old = plain_context(minimum_version=ssl.TLSVersion.TLSv1, maximum_version=ssl.TLSVersion.TLSv1_1)
    old.set_ciphers("ALL:@SECLEVEL=0")
    return {
        "TLS 1.3": plain_context(), "TLS 1.2": plain_context(maximum_version=ssl.TLSVersion.TLSv1_2), "TLS 1.1": old,
        "ciphers in another order": ciphers, "Chrome for pages": client_context(Use.HTTPS),
        "Chrome for WebSockets": client_context(Use.WEBSOCKET), **{f"ALPN {n}": c for n, c in alpn.items()},
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("kind", [
    "TLS 1.3", "TLS 1.2", "TLS 1.1", "ciphers in another order", "Chrome for pages", "Chrome for WebSockets", "ALPN h2",
    "ALPN http/1.1", "ALPN http/1.0", "ALPN acme-tls/1",
])  # fmt: skip
def test_hellos_are_answered_as_by_nginx(pair: Pair, kind: str) -> None:
    """Records of the same types and lengths: the server's choice of version, cipher, group, ALPN or alert."""
    mine, theirs = (server_side(port, contexts()[kind]) for port in pair[:2])
    assert [kind for kind, _ in mine] == [kind for kind, _ in theirs]
    for (_, ours), (_, other) in zip(mine, theirs, strict=True):
        assert abs(ours - other) <= 4  # a signature of ECDSA has 68 to 72 bytes


@pytest.mark.parametrize("name", ["page", "missing", "head", "two"])
def test_answers_fill_records_as_nginxs_do(pair: Pair, name: str) -> None:
    """Sizes of TLS records are in the clear."""
    mine, theirs = (answer_records(port, REQUESTS[name]) for port in pair[:2])
    assert mine == theirs


def answer_records(port: int, request: bytes) -> list[tuple[int, int]]:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = plain_context(maximum_version=ssl.TLSVersion.TLSv1_2).wrap_bio(incoming, outgoing, server_hostname="a.org")
    with socket.create_connection((web_rig.LOOPBACK, port), web_rig.PATIENCE) as sock:
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                sock.sendall(outgoing.read())
                incoming.write(sock.recv(65536))
        sock.sendall(outgoing.read())
        tls.write(request)
        answer, _ = web_rig.talk(sock, outgoing.read())
    return sizes(answer)


def sizes(data: bytes) -> list[tuple[int, int]]:
    """Types and lengths of TLS records."""
    out, at = [], 0
    while at + 5 <= len(data):
        kind, _, size = struct.unpack_from(">BHH", data, at)
        out.append((kind, size))
        at += 5 + size
    return out


def test_a_replayed_handshake_opens_nothing(pair: Pair) -> None:
    """All bytes that a client sent to open a tunnel, sent again."""
    mine = pair[2]
    sent = bytearray()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = plain_context().wrap_bio(incoming, outgoing, server_hostname="www.example.org")
    request = f"GET {mine.parameters['path']} HTTP/1.1\r\n".encode() + HOST + UPGRADE + b"\r\n"
    answer = b""
    with socket.create_connection((web_rig.LOOPBACK, mine.port), web_rig.PATIENCE) as sock:
        while b"\r\n\r\n" not in answer:
            try:
                tls.do_handshake()
                if request:
                    tls.write(request)
                    request = b""
                answer += tls.read(65536)
            except ssl.SSLWantReadError:
                pass
            ours = outgoing.read()
            sent += ours
            sock.sendall(ours)
            if b"\r\n\r\n" not in answer:
                incoming.write(sock.recv(65536))
    assert answer.startswith(b"HTTP/1.1 101 ")
    opened = len(mine.tunnels)
    with socket.create_connection((web_rig.LOOPBACK, mine.port), web_rig.PATIENCE) as sock:
        again, ended = web_rig.talk(sock, bytes(sent))
    assert len(mine.tunnels) == opened
    assert ended
    assert b"HTTP" not in again


def test_a_thousand_half_open_connections_keep_nobody_out(pair: Pair) -> None:
    held = []
    try:
        for _ in range(1100):
            sock = socket.create_connection((web_rig.LOOPBACK, pair[0]))
            sock.sendall(PLAIN["half a hello"])
            held.append(sock)
        with web_rig.tls_socket(pair[0]) as visitor:
            answer, _ = web_rig.talk(visitor, REQUESTS["page"])
        assert answer.startswith(b"HTTP/1.1 200 OK")
    finally:
        for sock in held:
            sock.close()
