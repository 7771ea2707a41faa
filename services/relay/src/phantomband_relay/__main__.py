"""`python -m phantomband_relay --config node.toml`: the relay of one node."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence

from phantomband.core.errors import ConfigError, Malformed, UserError
from phantomband.core.handshake.ntor import Responder
from phantomband.core.handshake.replay import ReplayCache
from phantomband.core.ids import NodeId
from phantomband.core.mixing.published import parse_untrusted
from phantomband.core.netdir.address import IPAddress, NodeAddress
from phantomband.core.netdir.exit_policy import ExitPolicy
from phantomband.core.netdir.genesis import Genesis
from phantomband.core.netdir.genesis_file import load_genesis
from phantomband.runtime.arguments import parse, target
from phantomband.runtime.directories import make_private
from phantomband.runtime.keystore import wait_node_id
from phantomband.runtime.log import configure
from phantomband.runtime.replay_file import ReplayFile
from phantomband.runtime.service import mistake, run_main, serve
from phantomband.runtime.settings import NodeConfig

from phantomband_relay.capacity import Capacity
from phantomband_relay.exit import ExitRules
from phantomband_relay.onion_keys import KeyRing, Periods
from phantomband_relay.service import EXIT_HOP, RelayParts, RelayService
from phantomband_relay.worker import fork_worker


def _rules(config: NodeConfig, genesis: Genesis) -> ExitRules:
    section = config.relay
    if section.exit_allow_private and not genesis.test_network:
        raise ConfigError(
            "configuration", "relay.exit_allow_private", "true", "this network is not a test network", "Remove the line"
        )
    try:
        policy = ExitPolicy.parse(section.exit_policy)
    except UserError as e:
        raise ConfigError(
            "configuration",
            "relay.exit_policy",
            repr(list(section.exit_policy)),
            str(e),
            'Write lines as "accept *:443"',
        ) from None
    return ExitRules(
        policy, section.exit_allow_private, section.max_exit_connections, section.connect_timeout, _own(config)
    )


def _own(config: NodeConfig) -> frozenset[IPAddress]:
    """The addresses that this node's gateway has or is said to have; a line that is none is the gateway's to refuse."""
    found = set()
    for line in (*config.gateway.listen, *config.gateway.advertise):
        try:
            found.add(NodeAddress.parse(line).ip)
        except (ValueError, Malformed):
            continue
    return frozenset(found)


async def _run(config: NodeConfig, genesis: Genesis, ring: KeyRing, node_id: NodeId, worker: socket.socket) -> None:
    log = configure("relay", config.log.level, config.log.format)
    rules = _rules(config, genesis)
    log.info("starting", lane=config.lane.value, exit=rules.policy.is_exit)
    replay = ReplayCache()
    kept = ReplayFile(config.data_dir / "relay" / "replay", replay)
    parts = RelayParts(
        sockets=config.sockets,
        gateway=target(config, "gateway"),
        mixer=target(config, "mixer"),
        directory=target(config, "directory"),
        driver=config.lane,
        ring=ring,
        responder=Responder(node_id, ring.keys.accepted, genesis.network_id, replay),
        capacity=Capacity(config.data_dir / "relay" / "capacity.json", time.time),
        worker=worker,
        rules=rules,
        random=os.urandom,
        node_id=node_id,
        network_id=genesis.network_id,
        loop_seconds=config.relay.loop_seconds,
        mixing=parse_untrusted(config.mixer.published).mean_delay,
        exit_hop=1 if genesis.test_network else EXIT_HOP,
        replay=kept,
        memory_bytes=config.memory_mib << 20,
    )
    await serve(RelayService(parts), config.sockets / "relay.sock")


def main(argv: Sequence[str] | None = None) -> None:
    """The handshake worker is forked here, before any thread and any key: it holds only those that it is told of."""
    try:
        config = parse("relay", NodeConfig, argv)
        make_private(config.sockets)
        genesis = load_genesis(config.genesis)
        _rules(config, genesis)
        node_id = wait_node_id(config.sockets)
        worker = fork_worker(Responder(node_id, [], genesis.network_id, None))
        periods = Periods(genesis.clock, config.relay.onion_key_epochs)
        ring = KeyRing(config.data_dir / "relay" / "onion.key", periods, os.urandom, time.time)
    except UserError as e:
        mistake(e)
    run_main(_run(config, genesis, ring, node_id, worker))


if __name__ == "__main__":
    main()
