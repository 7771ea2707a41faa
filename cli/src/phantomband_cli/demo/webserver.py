"""A small, quick web server for one directory: GET, one request a connection, the body by sendfile(2).

`python -m phantomband_cli.demo.webserver DIRECTORY` prints its port and serves the loopback interface, IPv4
and (where there is one) IPv6, until its standard input ends: so it cannot outlive whoever started it.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path

from phantomband_cli.demo.content import write_content

MAX_HEAD_BYTES = 16_384
"""Of a request, first line and header fields."""

_TYPES = {".html": "text/html; charset=utf-8"}


async def serve(directory: Path) -> None:
    """Serves until standard input ends."""
    await asyncio.to_thread(write_content, directory)
    sockets = _sockets()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _answer(directory, reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    servers = [await asyncio.start_server(handle, sock=s, limit=MAX_HEAD_BYTES) for s in sockets]
    print(sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()
    for server in servers:
        server.close()


def _sockets() -> list[socket.socket]:
    """Listening on one free port of 127.0.0.1 and, if it can be had, ::1."""
    first = socket.create_server(("127.0.0.1", 0), backlog=512)
    try:
        second = socket.create_server(("::1", first.getsockname()[1]), family=socket.AF_INET6, backlog=512)
    except OSError:
        return [first]
    return [first, second]


async def _answer(directory: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    method, target, *_ = [*head.split(b"\r\n", 1)[0].decode("latin-1").split(" "), "", ""]
    path = directory / (target.strip("/") or "index.html")
    if method != "GET" or path.parent != directory or not path.is_file():
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        return
    kind = _TYPES.get(path.suffix, "application/octet-stream")
    with path.open("rb") as file:
        size = path.stat().st_size
        fields = f"Content-Type: {kind}\r\nContent-Length: {size}\r\nConnection: close"
        writer.write(f"HTTP/1.1 200 OK\r\n{fields}\r\n\r\n".encode())
        await writer.drain()
        await asyncio.get_running_loop().sendfile(writer.transport, file)


def main() -> None:
    try:
        asyncio.run(serve(Path(sys.argv[1])))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
