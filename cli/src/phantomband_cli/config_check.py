"""`config check`: everything about a configuration that can be known before its service starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

from phantomband.core.bridge_line import parse_all
from phantomband.core.errors import ConfigError, Malformed, UserError
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.exit_policy import ExitPolicy
from phantomband.core.netdir.genesis_file import load_genesis
from phantomband.runtime.pluggable import command
from phantomband.runtime.settings import ClientConfig, NodeConfig, PluggableProgram, load
from phantomband.runtime.settings.sources import read
from phantomband.transports.quic import transport as quic
from phantomband.transports.registry import make
from phantomband.transports.tcp.proxy import Proxy
from phantomband.transports.tls import transport as tls
from phantomband.transports.website.options import Options
from phantomband.transports.websocket import transport as websocket
from phantomband_client.choice.preference import names_of

Kind = Literal["node", "client"]

WEB_PORTS = {
    tls.TlsTransport.name: tls.KNOWN,
    quic.QuicTransport.name: quic.KNOWN,
    websocket.WebSocketTransport.name: websocket.KNOWN,
}
"""Transports whose parameters name files, and all of those parameters."""


def guess_kind(file: Path) -> Kind:
    """A client's file has a key that only clients know, and none that only nodes know."""
    try:
        keys = set(read(file))
    except UserError:
        return "node"  # `load` says what is wrong
    client_only = set(ClientConfig.model_fields) - set(NodeConfig.model_fields)
    node_only = set(NodeConfig.model_fields) - set(ClientConfig.model_fields)
    return "client" if keys & client_only and not keys & node_only else "node"


def check(file: Path, kind: Kind | None, *, founding: bool = False) -> Kind:
    """Reads `file` as its service would, with environment, and looks at what it names.

    Args: founding: the genesis file may be still to come.

    Returns: what it was taken for.

    Raises:
        UserError: names file, key, value and remedy of the first fault.
    """
    kind = kind or guess_kind(file)
    if kind == "client":
        client = load(ClientConfig, file)
        if client.genesis is not None:
            _genesis(file, client.genesis)
        more = _programs(file, "pluggable", client.pluggable)
        if client.upstream_proxy is not None:
            _proxy(file, client, client.upstream_proxy, more)
        bridges = [client.bridges] if client.bridges else []
        _each(file, "bridges", bridges, lambda lines: parse_all(lines, more), "Copy the whole line again")
    else:
        node = load(NodeConfig, file)
        test_network = _genesis(file, node.genesis) if node.genesis.exists() or not founding else None
        _node(file, node, test_network)
    return kind


def _genesis(file: Path, path: Path) -> bool:
    """Whether it is a test network's."""
    if not path.exists():
        problem = "there is no such file"
        raise ConfigError(str(file), "genesis", repr(str(path)), problem, "Get it from whoever runs the network")
    return load_genesis(path).test_network


def _programs(file: Path, key: str, programs: Sequence[PluggableProgram]) -> list[str]:
    """The transports of external programs, each of which must be there."""
    _each(file, key, programs, command, "Install the program, or mend the line")
    return [name for program in programs for name in program.transports]


def _proxy(file: Path, client: ClientConfig, url: str, external: list[str]) -> None:
    """The value may hold a password: it is not shown."""
    try:
        proxy = Proxy.parse(url)
        bridges = parse_all(client.bridges, external)
        names = {bridge.address.transport for bridge in bridges} or set(names_of(client.transport, external, proxy))
        for name in names.difference(external):
            make(name, proxy)
    except UserError as e:
        problem, _, remedy = str(e).partition(". ")
        raise ConfigError(str(file), "upstream_proxy", "(not shown)", problem, remedy) from None


def _node(file: Path, config: NodeConfig, test_network: bool | None) -> None:
    _programs(file, "gateway.pluggable", config.gateway.pluggable)
    _each(file, "gateway.listen", config.gateway.listen, NodeAddress.parse, "Write transport://IP:port")
    _each(file, "gateway.advertise", config.gateway.advertise, NodeAddress.parse, "Write transport://IP:port")
    for line in config.gateway.listen:
        _parameters(file, line)
    policy = [config.relay.exit_policy] if config.relay.exit_policy else []
    _each(file, "relay.exit_policy", policy, ExitPolicy.parse, 'Write lines as "accept *:443"')
    if config.relay.exit_allow_private and test_network is False:
        problem = "only a test network's exits may reach private addresses"
        raise ConfigError(str(file), "relay.exit_allow_private", "true", problem, "Remove the line")


def _parameters(file: Path, line: str) -> None:
    """Those of a web site's port name files."""
    address = NodeAddress.parse(line)
    if (known := WEB_PORTS.get(address.transport)) is None:
        return
    try:
        Options.parse(dict(address.parameters), address.transport, known)
    except UserError as e:
        problem, _, remedy = str(e).partition(". ")
        raise ConfigError(str(file), "gateway.listen", repr(line), problem, remedy or "Mend the parameter") from None


def _each(file: Path, key: str, values: Iterable[object], parse: Callable[..., object], remedy: str) -> None:
    for value in values:
        try:
            parse(value)
        except (ValueError, Malformed, UserError) as e:
            raise ConfigError(str(file), key, repr(value), str(e), remedy) from None
