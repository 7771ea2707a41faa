"""`config check`: everything about a configuration that can be known before its service starts."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from phantomband.core.errors import ConfigError, Malformed, UserError
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.exit_policy import ExitPolicy
from phantomband.core.netdir.genesis_file import load_genesis
from phantomband.runtime.settings import ClientConfig, NodeConfig, load

Kind = Literal["node", "client"]


def guess_kind(file: Path) -> Kind:
    """A client's file has a key that only clients know, and none that only nodes know."""
    try:
        keys = set(tomllib.loads(file.read_text()))
    except (OSError, ValueError):
        return "node"  # `load` says what is wrong
    client_only = set(ClientConfig.model_fields) - set(NodeConfig.model_fields)
    node_only = set(NodeConfig.model_fields) - set(ClientConfig.model_fields)
    return "client" if keys & client_only and not keys & node_only else "node"


def check(file: Path, kind: Kind | None) -> Kind:
    """Reads `file` as its service would, with environment, and looks at what it names.

    Returns: what it was taken for.

    Raises:
        UserError: names file, key, value and remedy of the first fault.
    """
    kind = kind or guess_kind(file)
    if kind == "client":
        _genesis(file, load(ClientConfig, file).genesis)
    else:
        _node(file, load(NodeConfig, file))
    return kind


def _genesis(file: Path, path: Path) -> bool:
    """Whether it is a test network's."""
    if not path.exists():
        problem = "there is no such file"
        raise ConfigError(str(file), "genesis", repr(str(path)), problem, "Get it from whoever runs the network")
    return load_genesis(path).test_network


def _node(file: Path, config: NodeConfig) -> None:
    test_network = _genesis(file, config.genesis)
    _each(file, "gateway.listen", config.gateway.listen, NodeAddress.parse, "Write transport://IP:port")
    _each(file, "gateway.advertise", config.gateway.advertise, NodeAddress.parse, "Write transport://IP:port")
    policy = [config.relay.exit_policy] if config.relay.exit_policy else []
    _each(file, "relay.exit_policy", policy, ExitPolicy.parse, 'Write lines as "accept *:443"')
    if config.relay.exit_allow_private and not test_network:
        problem = "only a test network's exits may reach private addresses"
        raise ConfigError(str(file), "relay.exit_allow_private", "true", problem, "Remove the line")


def _each(file: Path, key: str, values: Iterable[object], parse: Callable[..., object], remedy: str) -> None:
    for value in values:
        try:
            parse(value)
        except (ValueError, Malformed, UserError) as e:
            raise ConfigError(str(file), key, repr(value), str(e), remedy) from None
