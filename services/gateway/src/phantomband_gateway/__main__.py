"""`python -m phantomband_gateway --config node.toml`: the gateway of one node."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

from phantomband.core.errors import ConfigError, Malformed
from phantomband.core.link import LinkKey
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.genesis_file import load_genesis
from phantomband.runtime.arguments import target
from phantomband.runtime.directories import make_private
from phantomband.runtime.keystore import load_or_create, wait_node_id
from phantomband.runtime.log import configure
from phantomband.runtime.pluggable import programs
from phantomband.runtime.service import run_service, serve
from phantomband.runtime.settings import NodeConfig
from phantomband.transports.base import Address
from phantomband.transports.registry import make

from phantomband_gateway.service import GatewayParts, GatewayService

KEY_BYTES = 32


def _addresses(key: str, lines: Sequence[str]) -> tuple[Address, ...]:
    out = []
    for line in lines:
        try:
            a = NodeAddress.parse(line)
        except (ValueError, Malformed) as e:
            raise ConfigError("configuration", key, repr(line), str(e), "Write transport://IP:port") from None
        out.append(Address(a.transport, a.host, a.port, dict(a.parameters)))
    return tuple(out)


def _reachable(listen: Sequence[Address], advertise: Sequence[Address]) -> None:
    """A listener without TLS can be dialled through the reverse proxy in front alone."""
    if any(a.parameters.get("plain") == "yes" for a in listen) and not advertise:
        raise ConfigError(
            "configuration", "gateway.advertise", "[]", "an address with plain=yes is reached elsewhere",
            'Write the outside address of the reverse proxy, such as "websocket://192.0.2.1:443?sni=www.example.org"',
        )  # fmt: skip


async def run(config: NodeConfig) -> None:
    """Runs the gateway until it is stopped."""
    log = configure("gateway", config.log.level, config.log.format)
    make_private(config.sockets)
    key = LinkKey(load_or_create(config.data_dir / "gateway" / "link.key", KEY_BYTES, os.urandom))
    genesis = load_genesis(config.genesis)
    listen = _addresses("gateway.listen", config.gateway.listen)
    advertise = _addresses("gateway.advertise", config.gateway.advertise)
    _reachable(listen, advertise)
    node_id = await asyncio.to_thread(wait_node_id, config.sockets)
    external = programs(config.gateway.pluggable, config.data_dir / "gateway")
    transports = {name: external.of(name) or make(name) for name in {"tcp", *(a.transport for a in listen)}}
    for address in listen:
        transports[address.transport].configure(config.data_dir / "gateway", address.parameters)
    log.info("starting", lane=config.lane.value, transports=sorted({a.transport for a in listen}))
    parts = GatewayParts(
        sockets=config.sockets,
        relay=target(config, "relay"),
        directory=target(config, "directory"),
        driver=config.lane,
        network_id=genesis.network_id,
        node_id=node_id,
        key=key,
        transports=transports,
        listen=listen,
        advertise=advertise,
        max_links=config.gateway.max_links,
        max_pending=config.gateway.max_pending,
        random=os.urandom,
        pacing=config.gateway.pacing,
        padding_total=config.gateway.padding_total,
        listed=not config.bridge,
        replay=config.data_dir / "gateway" / "replay",
        memory_bytes=config.memory_mib << 20,
    )
    try:
        await serve(GatewayService(parts), config.sockets / "gateway.sock")
    finally:
        for transport in transports.values():
            await transport.close()


def main(argv: Sequence[str] | None = None) -> None:
    run_service("gateway", NodeConfig, run, argv)


if __name__ == "__main__":
    main()
