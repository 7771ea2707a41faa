"""Our clients beside a real Chromium, from captured bytes."""

from __future__ import annotations

import asyncio
import datetime
import os
import re
import signal
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import hpack
import pytest
from e2e_net import need
from phantomband.transports.browser import hello as hellos
from phantomband.transports.browser.persona import load_all
from phantomband.transports.tls_layer.identity import Identity
from phantomband_cli import fingerprint
from proxies import exactly
from utls import Fingerprint

pytestmark = pytest.mark.slow

NAME = "www.example.net"
PATIENCE = 60.0
PERSONA = next(p for p in load_all() if p.name == "chrome-linux")
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS, SETTINGS, WINDOW_UPDATE = 1, 4, 8
"""Types of frames (RFC 9113, section 6)."""


@dataclass
class Captured:
    """By what the connection was for."""

    hellos: dict[str, bytes] = field(default_factory=dict)
    requests: dict[str, str] = field(default_factory=dict)
    all_there: threading.Event = field(default_factory=threading.Event)


def serve(connection: socket.socket, context: ssl.SSLContext, page: bytes, seen: Captured) -> None:
    """One connection: its hello is peeked at, then it is a web server's."""
    raw = b""
    while len(raw) < 5 or len(raw) < 5 + int.from_bytes(raw[3:5], "big"):
        raw = connection.recv(65536, socket.MSG_PEEK)
        if not raw:
            return
    with context.wrap_socket(connection, server_side=True) as tls:
        data = b""
        while part := tls.recv(65536):
            data += part
            if b"\r\n\r\n" not in data:
                continue
            kind = "websocket" if b"Upgrade: websocket" in data else data.split(b" ")[1].decode()
            seen.hellos.setdefault(kind, raw)
            seen.requests.setdefault(kind, data.decode("ascii"))
            if kind == "websocket":
                seen.all_there.set()
                return
            head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(page)}\r\n\r\n"
            tls.sendall(head.encode() + page)
            data = b""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Captured]:
    """A page of HTTPS that opens a WebSocket."""
    context = server_context("http/1.1")
    seen = Captured()
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    page = f"<script>new WebSocket('wss://{NAME}:{port}/x')</script>".encode()

    def guarded(connection: socket.socket) -> None:
        try:
            serve(connection, context, page, seen)
        except OSError:
            pass

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=guarded, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    with listener, chromium_at(tmp_path_factory.mktemp("profile"), port):
        assert seen.all_there.wait(PATIENCE), "Chromium opened no WebSocket"
        yield seen


def server_context(alpn: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    Identity(os.urandom, datetime.datetime.now(datetime.UTC), NAME).load_into(context, os.urandom(16).hex().encode())
    context.set_alpn_protocols([alpn])
    context.num_tickets = 0  # a second connection would resume the first's session, and its hello says so
    return context


@contextmanager
def chromium_at(profile: Path, port: int) -> Iterator[None]:
    """A real Chromium that opens the page of `port` by name."""
    command = [need("chromium", "chromium"), "--headless", "--no-sandbox", "--disable-gpu"]
    command += ["--ignore-certificate-errors", f"--user-data-dir={profile}"]
    command += [f"--host-resolver-rules=MAP {NAME} 127.0.0.1", f"https://{NAME}:{port}/"]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, env=home(profile)
    )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def home(profile: Path) -> dict[str, str]:
    return {**os.environ, "HOME": str(profile)}


@pytest.mark.parametrize(("transport", "kind"), [("tls", "/"), ("websocket", "websocket")])
def test_ja4_is_chromiums_by_two_implementations(chromium: Captured, transport: str, kind: str) -> None:
    ours = asyncio.run(fingerprint.capture(transport, load_all()[0])).hello
    theirs = chromium.hellos[kind]
    first, second = (hellos.parse_untrusted(raw) for raw in (ours, theirs))
    assert first is not None
    assert second is not None
    assert hellos.ja4(first) == hellos.ja4(second)
    assert hellos.ja3(first, ordered=True) == hellos.ja3(second, ordered=True)
    mine = ours[: 5 + int.from_bytes(ours[3:5], "big")]
    assert Fingerprint.from_capture(mine).ja4_hash == Fingerprint.from_capture(theirs).ja4_hash


def lines(request: str) -> list[tuple[str, str]]:
    """Header lines, without what differs by design: names, keys, the word Headless, and brands."""
    head = request.partition("\r\n\r\n")[0].split("\r\n")[1:]
    pairs = [(name, value) for name, _, value in (line.partition(": ") for line in head)]
    mask = {"Host": NAME, "Origin": f"https://{NAME}", "Sec-WebSocket-Key": "key"}
    return [(n, mask.get(n, v.replace("HeadlessChrome/", "Chrome/"))) for n, v in pairs]


def version_here(lines: Sequence[tuple[str, str]]) -> None:
    """Skips, aloud, where Chromium is another version than the persona."""
    agent = next(value for name, value in lines if name.lower() == "user-agent")
    version = re.search(r"Chrome/(\d+)\.", agent)
    assert version is not None
    if int(version[1]) != PERSONA.version:
        pytest.skip(f"LOUD: Chromium here is {version[1]}, the persona {PERSONA.version}: take the personas anew")


def without_brand(lines: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Debian's Chromium has one brand less than Chrome."""
    return [(n, v.replace(f', "Google Chrome";v="{PERSONA.version}"', "")) for n, v in lines]


@pytest.mark.parametrize("kind", ["/", "websocket"])
def test_headers_are_chromiums_in_order_case_and_value(chromium: Captured, kind: str) -> None:
    theirs = lines(chromium.requests[kind])
    version_here(theirs)
    assert without_brand(PERSONA.navigation(NAME) if kind == "/" else PERSONA.websocket(NAME, "key")) == theirs


def test_http2_is_chromiums(tmp_path: Path) -> None:
    """SETTINGS, window, priority, pseudo headers, header lines: of a page opened by hand."""
    frames = http2_frames(tmp_path)
    settings = next(payload for kind, payload in frames if kind == SETTINGS)
    pairs = tuple(struct.unpack(">HI", settings[at : at + 6]) for at in range(0, len(settings), 6))
    assert pairs == PERSONA.http2.settings
    window = next(payload for kind, payload in frames if kind == WINDOW_UPDATE)
    assert int.from_bytes(window, "big") == PERSONA.http2.window_update
    headers = next(payload for kind, payload in frames if kind == HEADERS)
    assert headers[:5].hex() == PERSONA.http2.priority
    theirs = [(str(n), str(v).replace("HeadlessChrome/", "Chrome/")) for n, v in hpack.Decoder().decode(headers[5:])]
    version_here(theirs)
    theirs = [(n, NAME if n == ":authority" else v) for n, v in theirs]
    assert without_brand(PERSONA.navigation_http2(NAME, "/")) == theirs


def http2_frames(profile: Path) -> list[tuple[int, bytes]]:
    """Types and payloads of what Chromium sends first to a server with h2."""
    context = server_context("h2")
    with socket.create_server(("127.0.0.1", 0)) as listener, chromium_at(profile, listener.getsockname()[1]):
        listener.settimeout(PATIENCE)
        while True:
            connection, _ = listener.accept()
            connection.settimeout(5)
            try:
                with context.wrap_socket(connection, server_side=True) as tls:
                    tls.sendall(bytes((0, 0, 0, SETTINGS, 0, 0, 0, 0, 0)))
                    data = exactly(tls, len(PREFACE))
                    assert data == PREFACE
                    frames: list[tuple[int, bytes]] = []
                    while HEADERS not in (kind for kind, _ in frames):
                        head = exactly(tls, 9)
                        frames.append((head[3], exactly(tls, int.from_bytes(head[:3], "big"))))
                    return frames
            except OSError:
                continue  # a connection that Chromium made ahead and did not use
