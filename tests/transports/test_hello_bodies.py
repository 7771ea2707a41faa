"""What stands in each extension of our ClientHellos, beside the installed Chromium's, over several processes.

Fingerprints such as JA4 look at numbers of extensions; who watches may look into them. What a browser varies must vary
in ours as there, and what it keeps must be kept: an order that is drawn once for a client is a mark of that client.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from e2e_net import need
from phantomband.core.errors import Malformed
from phantomband.transports.base import Address
from phantomband.transports.browser.hello import ClientHello, is_grease, parse_untrusted
from phantomband.transports.browser.persona import load_all
from phantomband.transports.registry import make

pytestmark = pytest.mark.slow

PATIENCE = 60.0
PROCESSES, CONNECTIONS = 3, 24
PERSONA = next(p for p in load_all() if p.name == "chrome-linux")
SNI, GROUPS, SIGNATURES, VERSIONS, KEY_SHARE, ECH = 0, 10, 13, 43, 51, 0xFE0D

Process = list[ClientHello]


class Listener:
    """Takes the hello of each connection and closes it."""

    def __init__(self, enough: Callable[[Process], bool]) -> None:
        self.hellos: Process = []
        self.enough = threading.Event()
        self._is_enough = enough
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        raw = b""
        with connection:
            connection.settimeout(PATIENCE)
            try:
                while (hello := parse_untrusted(raw)) is None:
                    part = connection.recv(65536)
                    if not part:
                        return
                    raw += part
            except (OSError, Malformed):
                return
        self.hellos.append(hello)
        if self._is_enough(self.hellos):
            self.enough.set()

    def close(self) -> None:
        self._socket.close()


@contextmanager
def listening(enough: Callable[[Process], bool]) -> Iterator[Listener]:
    listener = Listener(enough)
    try:
        yield listener
    finally:
        listener.close()


def of_chromium(profile: Path) -> Process:
    """Hellos of one new process: pages' and WebSockets'."""
    with listening(lambda seen: all(sum(is_page(h) is kind for h in seen) >= 8 for kind in (True, False))) as listener:
        page = f"<script>for(let i=0;i<8;i++)new WebSocket('wss://w'+i+'.example.net:{listener.port}/')</script>"
        page += "".join(f"<img src='https://a{i}.example.net:{listener.port}/'>" for i in range(CONNECTIONS))
        command = [need("chromium", "chromium"), "--headless", "--no-sandbox", "--disable-gpu"]
        command += ["--ignore-certificate-errors", f"--user-data-dir={profile}"]
        command += ["--host-resolver-rules=MAP * 127.0.0.1", f"data:text/html,{page}"]
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            env={**os.environ, "HOME": str(profile)},
        )  # fmt: skip
        try:
            assert listener.enough.wait(PATIENCE), "Chromium opened too few connections"
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return list(listener.hellos)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> list[Process]:
    return [of_chromium(tmp_path_factory.mktemp("profile")) for _ in range(PROCESSES)]


def of_ours(name: str) -> list[Process]:
    """Hellos of transports made anew, each dialling many times, as a client's session does."""
    parameters = {
        "sni": "www.example.net", "path": "/example", "knock": "A" * 22, "token": "A" * 43, "zone": "t.example.net",
    }  # fmt: skip

    async def dial(transport: Any, port: int) -> None:
        try:
            await transport.dial(Address(name, "127.0.0.1", port, parameters), lambda _: None, 20)
        except Exception:  # noqa: BLE001, S110 - our listener closes each connection
            pass

    async def many(port: int) -> None:
        transport = make(name, persona=PERSONA)
        for _ in range(CONNECTIONS):
            await dial(transport, port)
        await transport.close()

    processes = []
    for _ in range(PROCESSES):
        with listening(lambda seen: len(seen) >= CONNECTIONS) as listener:
            asyncio.run(many(listener.port))
            assert listener.enough.wait(PATIENCE)
            processes.append(list(listener.hellos))
    return processes


def is_page(hello: ClientHello) -> bool:
    """Whether a browser opened the connection for pages, not for a WebSocket."""
    return b"h2" in (hello.alpn or ())


def masked(number: int) -> int | str:
    return "grease" if is_grease(number) else number


def numbers(body: bytes, prefix: int) -> tuple[int | str, ...]:
    return tuple(masked(int.from_bytes(body[i : i + 2], "big")) for i in range(prefix, len(body) - 1, 2))


def shape(kind: int, body: bytes) -> object:
    """What a body says without what is drawn for each connection: keys, GREASE."""
    match kind:
        case 0x0000:
            return body[:2] != b""  # the name is another
        case 10 | 13:
            return numbers(body, 2)
        case 43:
            return numbers(body, 1)
        case 51:
            out, at = [], 2
            while at < len(body):
                size = int.from_bytes(body[at + 2 : at + 4], "big")
                out.append((masked(int.from_bytes(body[at : at + 2], "big")), size))
                at += 4 + size
            return tuple(out)
        case 0xFE0D:
            return body[:5], len(body), body[6:8]  # all but the config's id, the key and the payload
    return body


def shapes(processes: list[Process]) -> dict[object, set[object]]:
    """All shapes of each extension, and of what stands before the extensions."""
    out: dict[object, set[object]] = {}
    for hello in (hello for process in processes for hello in process):
        out.setdefault("head", set()).add((hello.version, tuple(masked(n) for n in hello.ciphers)))
        out.setdefault("kinds", set()).add(tuple(sorted(str(masked(kind)) for kind, _ in hello.extensions)))
        for kind, body in hello.extensions:
            out.setdefault(masked(kind), set()).add(shape(kind, body))
    return out


def varies(processes: list[Process]) -> dict[int, str]:
    """By what a body of each extension but the name varies: "connection", "process" (the same in all of one), or ""."""
    kinds = {kind for process in processes for hello in process for kind, _ in hello.extensions if not is_grease(kind)}
    out = {}
    for kind in kinds - {SNI}:
        bodies = [frozenset(hello.body(kind) for hello in process) for process in processes]
        within = any(len(b) > 1 for b in bodies)
        out[kind] = "connection" if within else "process" if len(set(bodies)) > 1 else ""
    return out


def by_alpn(processes: list[Process], h2: bool) -> list[Process]:
    return [[hello for hello in process if is_page(hello) is h2] for process in processes]


@pytest.mark.parametrize(("name", "h2"), [("tls", True), ("websocket", False), ("doh", True)])
def test_bodies_are_chromiums_and_what_varies_varies_as_there(chromium: list[Process], name: str, h2: bool) -> None:
    ours, theirs = of_ours(name), by_alpn(chromium, h2)
    assert all(theirs), "Chromium opened connections of both kinds"
    mine, wanted = shapes(ours), shapes(theirs)
    assert mine.keys() == wanted.keys()
    for kind, found in mine.items():
        if kind == ECH:
            continue
        assert found == wanted[kind], f"extension {kind}"
    # The lengths of ECH's filler are drawn from four; few WebSockets may not have shown all.
    assert wanted[ECH] <= mine[ECH] == shapes(chromium)[ECH]
    assert varies(ours) == varies(theirs)


@pytest.mark.parametrize("name", ["tls", "websocket", "doh"])
def test_no_extension_is_drawn_once_for_a_client(name: str) -> None:
    """Constant within a process, but different between processes: such a thing follows its client everywhere."""
    assert [kind for kind, how in varies(of_ours(name)).items() if how == "process"] == []


def test_the_order_of_extensions_is_drawn_for_each_connection(chromium: list[Process]) -> None:
    for processes in (of_ours("tls"), chromium):
        for process in processes:
            orders = {tuple(masked(kind) for kind, _ in hello.extensions) for hello in process}
            assert len(orders) > len(process) // 2
