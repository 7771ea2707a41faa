"""QUIC at 1,200-byte datagrams: ours, and aioquic as it comes; one stream, two processes on loopback.

Run as a program: `quic_pair.py serve|send OURS|aioquic BYTES [PORT PARAMETERS]`.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import resource
import ssl
import subprocess
import sys
import time
from typing import Any

import uvloop
from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.asyncio import serve as serve_aioquic
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import StreamDataReceived
from phantomband.transports.base import Address, Buffer, Connection
from phantomband.transports.quic import transport as quic
from phantomband.transports.registry import make
from phantomband.transports.tls_layer.identity import Identity

OURS, AIOQUIC = "ours", "aioquic"
DATAGRAM = 1200
WRITE_BYTES = 32 * 1024


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class Sink:
    def __init__(self, connection: Connection, size: int) -> None:
        self._connection, self._left = connection, size

    def received(self, data: Buffer) -> None:
        self._left -= len(data)
        if self._left <= 0:
            print(cpu(), flush=True)
            self._connection.write(b"complete")

    def writable(self) -> None: ...

    def closed(self, error: Exception | None) -> None: ...


class Sender:
    def __init__(self, connection: Connection) -> None:
        self.free, self.complete = asyncio.Event(), asyncio.Event()

    def received(self, data: Buffer) -> None:
        self.complete.set()

    def writable(self) -> None:
        self.free.set()

    def closed(self, error: Exception | None) -> None:
        self.complete.set()


class AioquicSink(QuicConnectionProtocol):
    left = 0

    def quic_event_received(self, event: Any) -> None:
        if isinstance(event, StreamDataReceived):
            self.left -= len(event.data)
            if self.left <= 0:
                print(cpu(), flush=True)
                self._quic.send_stream_data(event.stream_id, b"complete", end_stream=True)


async def serve(library: str, size: int) -> None:
    if library == OURS:
        transport = make("quic")
        listener = await transport.listen("127.0.0.1", 0, lambda connection: Sink(connection, size))
        port, parameters = listener.port, dict(transport.parameters())
    else:
        AioquicSink.left = size
        configuration = QuicConfiguration(is_client=False, alpn_protocols=["h3"], max_datagram_size=DATAGRAM)
        identity = Identity(os.urandom, datetime.datetime.now(datetime.UTC))
        configuration.certificate, configuration.private_key = identity.certificate, identity.key
        server = await serve_aioquic("127.0.0.1", 0, configuration=configuration, create_protocol=AioquicSink)
        port, parameters = server._transport.get_extra_info("sockname")[1], {}  # type: ignore[union-attr]
    print(json.dumps([port, parameters, cpu()]), flush=True)
    await asyncio.Event().wait()


async def send(library: str, size: int, port: int, parameters: dict[str, str]) -> tuple[float, float]:
    """Returns: seconds, CPU seconds of this end."""
    if library == OURS:
        ends: list[Sender] = []

        def accept(connection: Connection) -> Sender:
            ends.append(Sender(connection))
            return ends[0]

        connection = await make("quic").dial(Address("quic", "127.0.0.1", port, parameters), accept, 10)
        begun, used, payload = time.perf_counter(), cpu(), bytes(WRITE_BYTES)
        for _ in range(-(-size // WRITE_BYTES)):
            connection.write(payload)
            if connection.congested:
                ends[0].free.clear()
                await ends[0].free.wait()
        await ends[0].complete.wait()
        return time.perf_counter() - begun, cpu() - used
    configuration = QuicConfiguration(alpn_protocols=["h3"], verify_mode=ssl.CERT_NONE, max_datagram_size=DATAGRAM)
    async with connect("127.0.0.1", port, configuration=configuration) as client:
        reader, writer = await client.create_stream()
        begun, used = time.perf_counter(), cpu()
        writer.write(bytes(size))
        await reader.readexactly(8)
        return time.perf_counter() - begun, cpu() - used


def measure(library: str, size: int) -> dict[str, float]:
    """MB/s, CPU seconds a GB of both ends."""
    server = subprocess.Popen(
        [sys.executable, __file__, "serve", library, str(size)], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    try:
        port, parameters, before = json.loads(server.stdout.readline())
        command = [sys.executable, __file__, "send", library, str(size), str(port), json.dumps(parameters)]
        seconds, used = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=600).stdout)
        used += float(server.stdout.readline()) - before
    finally:
        server.kill()
        server.communicate()
    return {"mb_per_s": size / seconds / 1e6, "cpu_s_per_gb": used / size * 1e9}


def main() -> None:
    quic.DATAGRAM_BYTES = DATAGRAM
    role, library, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
    # aioquic's timers and uvloop's clock differ, and together they spin: it gets the loop that it is made for.
    factory = uvloop.new_event_loop if library == OURS else asyncio.SelectorEventLoop
    with asyncio.Runner(loop_factory=factory) as loop:
        if role == "serve":
            loop.run(serve(library, size))
        else:
            print(json.dumps(loop.run(send(library, size, int(sys.argv[4]), json.loads(sys.argv[5])))))


if __name__ == "__main__":
    main()
