"""Our client's connection beside a real Chromium's with secure DNS on: HTTP/2 settings, window, headers, priorities."""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import shutil
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from doh_rig import End
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import PriorityUpdated, RemoteSettingsChanged, RequestReceived, StreamEnded, WindowUpdated
from phantomband.transports.base import Address
from phantomband.transports.doh.parameters import token_text
from phantomband.transports.doh.transport import DohTransport
from phantomband.transports.tls_layer.identity import Identity

pytestmark = pytest.mark.slow

CHROMIUM = shutil.which("chromium")


Said = dict[str, Any]
"""What one request says, with the settings and the window of its connection."""


class Listener:
    """An HTTPS server that writes down what each request says."""

    def __init__(self) -> None:
        self.all: list[Said] = []
        self.more = asyncio.Event()

    async def __aenter__(self) -> Listener:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        Identity(os.urandom, datetime.datetime.now(datetime.UTC)).load_into(context, b"x")
        context.set_alpn_protocols(["h2"])
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def until(self, holds: Callable[[list[Said]], bool]) -> None:
        while not holds(self.all):
            self.more.clear()
            await self.more.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection: Said = {}
        requests: dict[int, Said] = {}
        http = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        http.initiate_connection()
        writer.write(http.data_to_send())
        try:
            while data := await reader.read(65536):
                for event in http.receive_data(data):
                    self._note(event, connection, requests)
                writer.write(http.data_to_send())
        except OSError:
            pass
        finally:
            writer.transport.abort()

    def _note(self, event: object, connection: Said, requests: dict[int, Said]) -> None:
        match event:
            case RemoteSettingsChanged():
                connection["settings"] = [(int(c), s.new_value) for c, s in event.changed_settings.items()]
            case WindowUpdated():
                connection["window"] = event.delta
            case RequestReceived():
                said = requests.setdefault(event.stream_id, {})
                said["headers"] = [
                    (n, v.partition(b"?")[0] if n == b":path" else v)
                    for n, v in event.headers or []
                    if n not in (b":authority", b"content-length")
                ]
                said["names"] = [n for n, _ in event.headers or []]
            case PriorityUpdated():
                said = requests.setdefault(event.stream_id, {})
                said["priority"] = (event.weight, event.depends_on, event.exclusive)
            case StreamEnded() if event.stream_id in requests:
                self.all.append({**connection, **requests[event.stream_id]})
                self.more.set()


async def of_ours(get: bool) -> Said:
    async with Listener() as it:
        values = {"token": token_text(bytes(32)), "sni": "some.example.test", "method": "get" if get else "post"}
        address = Address("doh", "127.0.0.1", it.port, values)
        dialling = asyncio.create_task(DohTransport().dial(address, End, 60.0))
        async with asyncio.timeout(60):
            await it.until(bool)
        dialling.cancel()
        await asyncio.gather(dialling, return_exceptions=True)
        return it.all[0]


async def chromium_says(folder: Path, get: bool, wanted: Said) -> list[Said]:
    """All that it said until it said `wanted`. Its lookups are not all alike: what it asks to try the server first has
    another priority."""
    assert CHROMIUM is not None
    async with Listener() as it:
        template = f"https://127.0.0.1:{it.port}/dns-query" + ("{?dns}" if get else "")
        folder.mkdir(parents=True)
        secure = {"dns_over_https": {"mode": "secure", "templates": template}}
        (folder / "Local State").write_text(json.dumps(secure))
        process = await asyncio.create_subprocess_exec(
            CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--ignore-certificate-errors",
            "--remote-debugging-port=0", f"--user-data-dir={folder}", "http://some.example.test/",
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            async with asyncio.timeout(60):
                await it.until(lambda said: wanted in said)
        except TimeoutError:
            pass
        finally:
            process.terminate()
            await process.wait()
        return it.all


@pytest.mark.skipif(CHROMIUM is None, reason="chromium IS NOT INSTALLED: the client is not compared with a browser")
@pytest.mark.parametrize("get", [False, True], ids=["post", "get"])
def test_the_client_says_what_chromium_says(tmp_path: Path, get: bool) -> None:
    ours = asyncio.run(of_ours(get))
    assert ours in asyncio.run(chromium_says(tmp_path / "profile", get, ours))
