"""What a test network needs before its first process starts: directories' keys, genesis, configurations."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from phantomband.core.bridge_line import TRANSPORTS
from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.epoch import EpochClock
from phantomband.core.netdir.genesis import Genesis, Terms
from phantomband.core.netdir.genesis_file import save_genesis
from phantomband.core.work.difficulty import FREE, DifficultyRule
from phantomband.core.work.equihash import BY_NAME

from phantomband_cli.directory_card import directory_card
from phantomband_cli.node import toml_value
from phantomband_cli.testnet.layout import Layout
from phantomband_cli.testnet.options import Options
from phantomband_cli.testnet.ports import LOOPBACK, free_ports, proxy_port

USUAL = ("tcp", "tls", "quic")
"""Every node listens on all, and on the client's if that is another; for `auto` on every transport there is."""

STARTUP_EPOCHS = 20
STARTUP_SECONDS = 1
"""A first view within two seconds, then one each half minute, unless it is asked otherwise."""

NODES_A_SECOND = 20
DIRECTORIES_A_SECOND = 5
"""All nodes start at once, on few processors: with more of them the first epochs are longer."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the rest needs to know."""

    socks_port: int
    http_port: int | None


def prepare(
    layout: Layout, options: Options, now: float, random: RandomSource, *, hosts: Sequence[str] | None = None
) -> Prepared:
    """Writes everything into `layout`, whose directory is claimed and empty.

    Args:
        hosts: the nodes' IP addresses, if they are not all on loopback.

    Raises:
        UserError: a port or a directory cannot be had.
    """
    socks = proxy_port("--socks-port", options.socks_port)
    http = None if options.http_port is None else proxy_port("--http-port", options.http_port)
    layout.make_run()
    transports = TRANSPORTS if options.transport == "auto" else tuple(dict.fromkeys((*USUAL, options.transport)))
    ports = free_ports(transports * options.nodes)
    addresses = [
        tuple(
            NodeAddress(t, hosts[i] if hosts else LOOPBACK, ports[i * len(transports) + j])
            for j, t in enumerate(transports)
        )
        for i in range(options.nodes)
    ]
    _genesis(layout, options, addresses, now, random)
    for index, name in enumerate(options.names):
        _node(layout, options, index, name, addresses[index])
    _client(layout, options, socks, http)
    return Prepared(socks, http)


def startup_seconds(nodes: int, directories: int) -> int:
    """Length of the first epochs."""
    return STARTUP_SECONDS + nodes // NODES_A_SECOND + directories // DIRECTORIES_A_SECOND


def _genesis(
    layout: Layout,
    options: Options,
    addresses: list[tuple[NodeAddress, ...]],
    now: float,
    random: RandomSource,
) -> None:
    clock = EpochClock(
        int(now), STARTUP_EPOCHS, startup_seconds(options.nodes, options.directories), options.epoch_seconds
    )
    directories = tuple(
        directory_card(layout.node(name) / "data", name, addresses[i], (), random)
        for i, name in enumerate(options.names[: options.directories])
    )
    work = BY_NAME.get(options.work)
    rule = DifficultyRule(floor=0) if work is not None else FREE
    terms = Terms(work, rule, options.probation)
    save_genesis(Genesis("testnet", True, clock, options.nodes, directories, terms), layout.genesis)


def _node(layout: Layout, options: Options, index: int, name: str, addresses: tuple[NodeAddress, ...]) -> None:
    relay: dict[str, object] = {"exit_allow_private": True, "exit_policy": ["accept *:*"]}
    write_toml(
        layout.node_config(name),
        {
            "nickname": name,
            "genesis": str(layout.genesis),
            "data_dir": str(layout.node(name) / "data"),
            "run_dir": str(layout.run / name),
            "lane": options.lane,
        },
        {
            "gateway": {"listen": [address.text() for address in addresses], "padding": options.padding},
            "relay": relay if options.is_exit(index) else {},
            "mixer": {"strategy": options.mix},
        },
    )


def _client(layout: Layout, options: Options, socks: int, http: int | None) -> None:
    values: dict[str, object] = {
        "genesis": str(layout.genesis),
        "data_dir": str(layout.client / "data"),
        "run_dir": str(layout.client_socket.parent),
        "socks_port": socks,
        "transport": options.transport,
        "profile": options.profile,
    }
    if http is not None:
        values["http_port"] = http
    write_toml(layout.client_config, values, {})


def write_toml(path: Path, top: Mapping[str, object], sections: Mapping[str, Mapping[str, object]]) -> None:
    """A configuration file."""
    lines = [f"{key} = {toml_value(value)}" for key, value in top.items()]
    for name, values in sections.items():
        if values:
            lines += ["", f"[{name}]", *(f"{key} = {toml_value(value)}" for key, value in values.items())]
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape") as f:
        f.write("\n".join(lines) + "\n")
