"""WebSocket messages of all sizes, both ways, over a connection through the network."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from e2e_net import Network, lacking
from e2e_servers import content
from e2e_socks import connect

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SIZES = (0, 1, 125, 126, 2047, 65_535, 65_536, 1_000_000)
"""Around the borders of WebSocket's length fields (RFC 6455, section 5.2), and of a cell."""
PUSHED = 20


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A server that echoes what it is sent; asked to "push", it sends messages of its own."""
    try:
        from websockets.sync.server import serve
    except ImportError:
        lacking("websockets is missing: run make setup")

    def handler(socket: Any) -> None:
        for message in socket:
            if message == "push":
                for number in range(PUSHED):
                    socket.send(content(50_000 + number))
            else:
                socket.send(message)

    with serve(handler, "127.0.0.1", 0, compression=None, max_size=None) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.socket.getsockname()[1]
        server.shutdown()
        thread.join()


def test_an_echo_of_all_sizes_and_pushed_messages(network: Network, port: int) -> None:
    from websockets.sync.client import connect as open_websocket

    raw = connect(network.socks, "localhost", port)
    with open_websocket(
        f"ws://localhost:{port}/", sock=raw, compression=None, max_size=None, open_timeout=30, proxy=None
    ) as socket:
        for size in SIZES:
            socket.send(content(size))
            assert socket.recv(timeout=60) == content(size)
        socket.send("text: äöü")
        assert socket.recv(timeout=60) == "text: äöü"
        socket.send("push")
        for number in range(PUSHED):
            assert socket.recv(timeout=60) == content(50_000 + number)
        assert socket.ping().wait(30)
