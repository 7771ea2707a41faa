"""`python -m phantomband_client --config client.toml`: the client, where clock and randomness enter."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Mapping, Sequence

import structlog
from phantomband.core.bridge_line import BridgeLine, parse_all
from phantomband.core.errors import UserError
from phantomband.core.netdir.genesis_file import load_genesis
from phantomband.runtime.directories import held, make_private
from phantomband.runtime.log import configure
from phantomband.runtime.pluggable import programs
from phantomband.runtime.service import run_service, serve
from phantomband.runtime.settings import ClientConfig
from phantomband.runtime.state_files import StateFiles
from phantomband.transports.base import Transport
from phantomband.transports.browser.persona import for_session
from phantomband.transports.registry import make
from phantomband.transports.tcp.proxy import Proxy

from phantomband_client.bridges import StoredBridges
from phantomband_client.choice.chooser import Chooser
from phantomband_client.choice.local_network import local_network
from phantomband_client.choice.memory import TransportMemory
from phantomband_client.choice.preference import names_of
from phantomband_client.first_links import genesis_by_bridge
from phantomband_client.service import ClientParts, ClientService


async def run(config: ClientConfig) -> None:
    """Runs one client until it is stopped."""
    log = configure("client", config.log.level, config.log.format)
    who = "client", f"SOCKS {config.socks_port}"
    with held(make_private(config.data_dir), *who), held(make_private(config.sockets), *who):
        await _run(config, log)


async def _run(config: ClientConfig, log: structlog.stdlib.BoundLogger) -> None:
    files = StateFiles(config.data_dir)
    names_outside = [name for entry in config.pluggable for name in entry.transports]
    bridges = parse_all((*config.bridges, *StoredBridges(config.data_dir).lines()), names_outside)
    if not bridges and config.genesis is None:
        raise UserError("there is neither a genesis file nor a bridge. Set genesis, or `phantomband bridge add LINE`")
    proxy = Proxy.parse(config.upstream_proxy) if config.upstream_proxy is not None else None
    external = programs(config.pluggable, config.data_dir, config.upstream_proxy or "")
    wanted = names_of(config.transport, names_outside, proxy)
    names = dict.fromkeys(bridge.address.transport for bridge in bridges) or wanted
    persona = for_session(config.data_dir, os.urandom)
    if (outdated := persona.warning(datetime.date.today())) is not None:
        log.warning("outdated persona", why=outdated)
    transports = {name: external.of(name) or make(name, proxy, persona) for name in names}
    try:
        await _serve(config, log, files, bridges, transports)
    finally:
        for transport in transports.values():
            await transport.close()


async def _serve(
    config: ClientConfig,
    log: structlog.stdlib.BoundLogger,
    files: StateFiles,
    bridges: tuple[BridgeLine, ...],
    transports: Mapping[str, Transport],
) -> None:
    memory = TransportMemory(files, time.time, local_network, os.urandom)
    network_id = bridges[0].network_id if config.genesis is None else load_genesis(config.genesis).network_id
    chooser = Chooser(network_id, transports, memory, time.time)
    if config.genesis is not None:
        genesis = load_genesis(config.genesis)
        if any(bridge.network_id != genesis.network_id for bridge in bridges):
            raise UserError("the bridges are of another network than the genesis file. Leave one of the two away")
    else:
        log.info("asking the bridge for the network")
        genesis = await genesis_by_bridge(
            bridges, files, chooser, os.urandom, lambda why: log.warning("no genesis file yet", why=why)
        )
    parts = ClientParts(config, genesis, chooser, os.urandom, time.time, files, bridges)
    log.info("starting", transport=",".join(transports), network=genesis.name)
    await serve(ClientService(parts), config.sockets / "client.sock")


def main(argv: Sequence[str] | None = None) -> None:
    run_service("client", ClientConfig, run, argv)


if __name__ == "__main__":
    main()
