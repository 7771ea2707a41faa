"""What a test network finds when its first process starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from phantomband.core.crypto.sign import IdentityKey
from phantomband.core.errors import UserError
from phantomband.core.link import LinkKey
from phantomband.core.netdir.genesis_file import load_genesis
from phantomband.runtime.settings import ClientConfig, NodeConfig, load
from phantomband.transports.registry import make
from phantomband.transports.tls.transport import TlsTransport
from phantomband_cli.process import ProcessId
from phantomband_cli.testnet.events import EventReader, EventWriter
from phantomband_cli.testnet.layout import Layout
from phantomband_cli.testnet.options import Options
from phantomband_cli.testnet.ports import can_bind, free_ports, proxy_port
from phantomband_cli.testnet.prepare import prepare


def test_everything_fits_together(tmp_path: Path) -> None:
    layout = Layout.at(tmp_path / "net")
    layout.claim()
    options = Options(
        nodes=5, directories=2, exits=2, mix="timed", lane="grpc", transport="quic", socks_port=0, padding="constant"
    )
    prepared = prepare(layout, options, 1_790_000_000.9, os.urandom)
    genesis = load_genesis(layout.genesis)
    assert genesis.test_network
    assert genesis.clock.start_time == 1_790_000_000
    nodes = [load(NodeConfig, layout.node_config(name), {}) for name in options.names]
    assert len({line for node in nodes for line in node.gateway.listen}) == 15
    assert [bool(node.relay.exit_policy) for node in nodes] == [False, False, False, True, True]
    assert {(node.mixer.strategy, node.lane.value) for node in nodes} == {("timed", "grpc")}
    assert {node.gateway.padding for node in nodes} == {"constant"}
    for directory, node in zip(genesis.directories, nodes, strict=False):
        assert directory.identity == IdentityKey((node.data_dir / "directory/identity.key").read_bytes()).public.raw
        assert directory.link_key == LinkKey((node.data_dir / "gateway/link.key").read_bytes()).public
        assert tuple(a.text().partition("?")[0] for a in directory.addresses) == node.gateway.listen
        (tls,) = (a for a in directory.addresses if a.transport == "tls")
        transport = TlsTransport()
        transport.configure(node.data_dir / "gateway", {})
        assert dict(tls.parameters) == transport.parameters()
    client = load(ClientConfig, layout.client_config, {})
    assert (client.transport, client.socks_port, client.http_port) == ("quic", prepared.socks_port, None)
    assert client.sockets / "client.sock" == layout.client_socket


@pytest.mark.parametrize("name", ["obfs4", "doh"])
def test_nodes_listen_on_what_the_client_uses(tmp_path: Path, name: str) -> None:
    layout = Layout.at(tmp_path / "net")
    layout.claim()
    options = Options(nodes=3, directories=2, transport=name, socks_port=0)
    prepare(layout, options, 0.0, os.urandom)
    nodes = [load(NodeConfig, layout.node_config(name), {}) for name in options.names]
    assert {sum(line.startswith(f"{name}://") for line in node.gateway.listen) for node in nodes} == {1}
    for directory, node in zip(load_genesis(layout.genesis).directories, nodes, strict=False):
        (address,) = (a for a in directory.addresses if a.transport == name)
        transport = make(name)
        transport.configure(node.data_dir / "gateway", {})
        assert dict(address.parameters) == transport.parameters()
    assert load(ClientConfig, layout.client_config, {}).transport == name


def test_nobody_else_can_read_the_keys(tmp_path: Path) -> None:
    layout = Layout.at(tmp_path / "net")
    layout.claim()
    prepare(layout, Options(nodes=3, socks_port=0, transport="obfs4"), 0.0, os.urandom)
    assert {path.stat().st_mode & 0o077 for path in (layout.root / "nodes").rglob("*.key")} == {0}
    assert layout.run.stat().st_mode & 0o777 == 0o700


def test_ports_are_free_and_different() -> None:
    ports = free_ports(["tcp", "tls", "quic"] * 20)
    assert len(set(ports)) == 60
    assert all(can_bind(port) for port in ports[:3])


def test_a_taken_port_says_what_to_do() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} .*--socks-port"):
            proxy_port("--socks-port", port)


def test_events_come_as_they_were_told() -> None:
    reader, writer = os.pipe()
    events, told = EventReader(reader), EventWriter(writer)
    assert list(events.read()) == []
    told.tell("failing", name="n1.relay", log="/l")
    told.tell("failed", error="two\nlines")
    assert [e["event"] for e in events.read()] == ["failing", "failed"]
    told.close()
    told.tell("failed", error="nobody hears")
    assert list(events.read()) == []
    assert events.ended


def test_a_process_is_never_mistaken_for_a_later_one() -> None:
    us = ProcessId.of(os.getpid())
    assert us.alive
    assert not ProcessId(us.pid, us.started + 1).alive
    ProcessId(us.pid, us.started + 1).kill(9)  # nothing happens
