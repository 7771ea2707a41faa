"""Hostile peers against real services: wrong bytes, floods, lies over a real link. Nothing is given away or lost."""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Iterator

import pytest
from e2e_net import Network, until
from e2e_net import network as start
from e2e_servers import WebServer, content
from e2e_socks import connect, receive_all
from phantomband.core.cell import CELL_BYTES, Command, encode
from phantomband.core.circuit.messages import encode_create
from phantomband.core.handshake.ntor import CLIENT_BYTES
from phantomband.core.ids import NodeId
from phantomband.core.link import Cells, Established, Link, Send, dial
from phantomband.core.netdir.genesis_file import load_genesis

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    with start("--nodes", "3", "--exits", "1") as running:
        yield running


class Peer:
    """An anonymous dialer with a real link to a gateway, that then does as it likes."""

    def __init__(self, net: Network) -> None:
        genesis = load_genesis(net.directory / "genesis.json")
        directory = genesis.directories[0]
        address = next(a for a in directory.addresses if a.transport == "tcp")
        self.name = directory.nickname
        self.socket = socket.create_connection((address.host, address.port), timeout=20)
        self.link: Link = dial(genesis.network_id, NodeId(directory.node_id), directory.link_key, None, os.urandom)
        self.socket.sendall(self.link.start())
        self.cells = bytearray()
        while not self.link.established:
            self.read()

    def read(self) -> None:
        for event in self.link.receive(self.socket.recv(65_536)):
            match event:
                case Send(data):
                    self.socket.sendall(data)
                case Cells(data):
                    self.cells += data
                case Established():
                    pass

    def send(self, cells: bytes) -> None:
        self.socket.sendall(self.link.seal(cells))

    def commands(self) -> list[tuple[bytes, int]]:
        """(circuit, command) of every cell that came."""
        return [(bytes(self.cells[i : i + 4]), self.cells[i + 4]) for i in range(0, len(self.cells), CELL_BYTES)]


def works(net: Network, web: WebServer) -> None:
    with connect(net.socks, "localhost", web.port, user=str(time.monotonic())) as s:
        s.sendall(b"GET /bytes/200000 HTTP/1.0\r\n\r\n")
        assert receive_all(s).endswith(content(200_000))


def value(net: Network, service: str, counter: str) -> float:
    return float(net.services()[service]["status"][counter])


PROBES = {
    "random": random.Random(5).randbytes(5000),
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "tls": bytes.fromhex("16030102000100") + random.Random(6).randbytes(510),
    "zeros": bytes(4096),
    "partial": random.Random(7).randbytes(100),
}


@pytest.mark.parametrize("probe", PROBES)
def test_a_prober_of_the_tcp_port_gets_no_byte_and_no_quick_close(net: Network, web: WebServer, probe: str) -> None:
    port = net.gateways("tcp")[0]
    with socket.create_connection(("127.0.0.1", port), timeout=0.9) as s:
        s.sendall(PROBES[probe])
        with pytest.raises(TimeoutError):
            s.recv(1)
    works(net, web)


def test_a_recorded_handshake_replayed_gets_no_answer(net: Network, web: WebServer) -> None:
    genesis = load_genesis(net.directory / "genesis.json")
    directory = genesis.directories[0]
    port = next(a for a in directory.addresses if a.transport == "tcp").port
    first = dial(genesis.network_id, NodeId(directory.node_id), directory.link_key, None, os.urandom).start()
    with socket.create_connection(("127.0.0.1", port), timeout=20) as s:
        s.sendall(first)
        assert len(s.recv(65_536)) > 1000, "the original is answered"
    with socket.create_connection(("127.0.0.1", port), timeout=0.9) as s:
        s.sendall(first)
        with pytest.raises(TimeoutError):
            s.recv(1)


def test_garbage_cells_kill_nothing_but_themselves(net: Network, web: WebServer) -> None:
    peer = Peer(net)
    noise = random.Random(1)
    for _ in range(200):
        peer.send(noise.randbytes(CELL_BYTES * 15))
    works(net, web)
    assert value(net, f"{peer.name}.relay", "malformed") + value(net, f"{peer.name}.relay", "stray_cells") > 0


def test_a_flood_of_handshakes_is_refused_and_others_are_served(net: Network, web: WebServer) -> None:
    peer = Peer(net)
    before = value(net, f"{peer.name}.relay", "circuits_refused")
    body = encode_create(1, bytes(CLIENT_BYTES))
    for start_id in range(1, 5001, 50):
        ids = range(start_id, start_id + 50)
        peer.send(b"".join(encode(i.to_bytes(4, "big"), Command.CREATE, body) for i in ids))
    works(net, web)
    until("every CREATE is refused", lambda: value(net, f"{peer.name}.relay", "circuits_refused") >= before + 5000)
    while len(peer.commands()) < 5000:
        peer.read()
    assert {command for _, command in peer.commands()} == {Command.DESTROY}


def test_a_peer_that_floods_stray_cells_is_thrown_out(net: Network, web: WebServer) -> None:
    peer = Peer(net)
    batch = encode(b"\0\0\7\7", Command.RELAY, b"") * 150
    with pytest.raises(OSError), peer.socket:
        for _ in range(2000):
            peer.send(batch)
        peer.socket.recv(1)
        raise ConnectionResetError("closed in order")
    works(net, web)


def test_answers_that_nobody_asked_for_end_the_link(net: Network, web: WebServer) -> None:
    peer = Peer(net)
    body = (7).to_bytes(4, "big") + bytes((1,)) + (2036).to_bytes(2, "big") + bytes(2036)
    for _ in range(20):
        peer.send(encode(bytes(4), Command.DIRECTORY, body) * 15)
    until("the link is gone", lambda: gone(peer), 25)
    works(net, web)


def gone(peer: Peer) -> bool:
    peer.socket.settimeout(0.2)
    try:
        return peer.socket.recv(65_536) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_a_record_that_does_not_open_ends_the_link_silently(net: Network, web: WebServer) -> None:
    peer = Peer(net)
    sealed = bytearray(peer.link.seal(encode(bytes(4), Command.PAD)))
    sealed[30] ^= 1
    peer.socket.sendall(sealed)
    peer.socket.settimeout(0.9)
    with pytest.raises(TimeoutError):
        peer.socket.recv(1)
    works(net, web)


def test_half_open_connections_are_bounded(net: Network, web: WebServer) -> None:
    port = net.gateways("tcp")[0]
    held = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(1000)]
    try:
        pending = max(value(net, s, "links_pending") for s in net.services() if s.endswith(".gateway"))
        assert pending <= 256
        evicted = sum(value(net, s, "links_evicted") for s in net.services() if s.endswith(".gateway"))
        assert evicted >= 1000 - 256
        works(net, web)
    finally:
        for s in held:
            s.close()
    until("they are forgotten", lambda: net.total("links_pending", of="gateway") == 0)
