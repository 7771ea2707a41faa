"""What a test network needs before its first process starts: directories' keys, genesis, configurations."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.crypto.sign import IDENTITY_PRIVATE_BYTES, IdentityKey
from phantomband.core.link import LinkKey
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.epoch import EpochClock
from phantomband.core.netdir.genesis import DirectoryInfo, Genesis
from phantomband.core.netdir.genesis_file import save_genesis
from phantomband.runtime.keystore import load_or_create

from phantomband_cli.testnet.layout import Layout
from phantomband_cli.testnet.options import Options
from phantomband_cli.testnet.ports import LOOPBACK, free_ports, proxy_port

TRANSPORTS = ("tcp", "tls", "quic")
"""Every node listens on all."""

IDENTITY_FILE = "directory/identity.key"
LINK_KEY_FILE = "gateway/link.key"
LINK_KEY_BYTES = 32
"""Where the services keep their keys, in a node's data directory."""

STARTUP_EPOCHS = 20
STARTUP_SECONDS = 1
EPOCH_SECONDS = 30
"""A first view within two seconds, then one each half minute."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the rest needs to know."""

    socks_port: int
    http_port: int | None


def prepare(layout: Layout, options: Options, now: float, random: RandomSource) -> Prepared:
    """Writes everything into `layout`, whose directory is claimed and empty.

    Raises:
        UserError: a port or a directory cannot be had.
    """
    socks = proxy_port("--socks-port", options.socks_port)
    http = None if options.http_port is None else proxy_port("--http-port", options.http_port)
    layout.make_run()
    ports = free_ports(TRANSPORTS * options.nodes)
    addresses = [
        tuple(NodeAddress(t, LOOPBACK, ports[i * len(TRANSPORTS) + j]) for j, t in enumerate(TRANSPORTS))
        for i in range(options.nodes)
    ]
    _genesis(layout, options, addresses, now, random)
    for index, name in enumerate(options.names):
        _node(layout, options, index, name, addresses[index])
    _client(layout, options, socks, http)
    return Prepared(socks, http)


def _genesis(
    layout: Layout,
    options: Options,
    addresses: list[tuple[NodeAddress, ...]],
    now: float,
    random: RandomSource,
) -> None:
    clock = EpochClock(int(now), STARTUP_EPOCHS, STARTUP_SECONDS, EPOCH_SECONDS)
    directories = tuple(
        _directory(layout.node(name) / "data", name, addresses[i], random)
        for i, name in enumerate(options.names[: options.directories])
    )
    save_genesis(Genesis("testnet", True, clock, options.nodes, directories), layout.genesis)


def _directory(data: Path, name: str, addresses: tuple[NodeAddress, ...], random: RandomSource) -> DirectoryInfo:
    identity = IdentityKey(load_or_create(data / IDENTITY_FILE, IDENTITY_PRIVATE_BYTES, random))
    link = LinkKey(load_or_create(data / LINK_KEY_FILE, LINK_KEY_BYTES, random))
    return DirectoryInfo(name, identity.public.raw, link.public, addresses)


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
    """A configuration file. JSON's text, numbers, booleans and lists are TOML's too (TOML 1.0)."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in top.items()]
    for name, values in sections.items():
        if values:
            lines += ["", f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as f:
        f.write("\n".join(lines) + "\n")
