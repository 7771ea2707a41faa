"""`python -m phantomband_directory --config node.toml`: the directory of one node, and the keeper of its identity."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Mapping, Sequence

import grpc.aio
from phantomband.proto import directory_pb2, gateway_pb2_grpc, relay_pb2_grpc
from phantomband.runtime.arguments import target
from phantomband.runtime.directories import make_private
from phantomband.runtime.keystore import publish_node_id
from phantomband.runtime.log import configure
from phantomband.runtime.rpc import local_channel
from phantomband.runtime.service import Service, new_incarnation, run_service, serve
from phantomband.runtime.settings import NodeConfig

from phantomband_directory.adapters import GrpcParts, GrpcPeerNetwork
from phantomband_directory.app import Files, build
from phantomband_directory.grpc_server import register
from phantomband_directory.parts import NodeSettings
from phantomband_directory.service import DirectoryService
from phantomband_directory.stamps import SolverProcess
from phantomband_directory.store import load_succession

SOFTWARE = "phantomband 0.1.0"

SOLVER = (sys.executable, "-m", "phantomband_cli.work")
"""Comes with the command line, and needs numpy."""


class DirectoryNode(Service):
    """The directory service as a process of its node."""

    name = "directory"

    def __init__(self, service: DirectoryService) -> None:
        self.incarnation = new_incarnation()
        self._service = service

    def add_to(self, server: grpc.aio.Server) -> list[str]:
        register(self._service, server)
        return [directory_pb2.DESCRIPTOR.services_by_name["Directory"].full_name]

    async def run(self, ready: Callable[[], None]) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._service.run())
            async for _ in self._service.watch():
                ready()
                break

    def status(self) -> Mapping[str, float]:
        status = self._service.status()
        spread = status.spread
        return {
            "voter": float(status.voter),
            "epoch": status.epoch,
            "view_epoch": status.view_epoch,
            "view_nodes": status.relays,
            "descriptors": status.descriptors,
            "evidence": status.evidence,
            "dropped_calls": status.dropped_calls,
            "measured": status.measured,
            "bad": len(status.bad),
            "table_contacts": spread.contacts,
            "table_records": spread.records,
            "gossip_rounds": spread.rounds,
            "gossip_bytes": spread.bytes,
            "reached": spread.reached,
            "unreached": spread.unreached,
            "convicted": spread.convicted,
            "storage_ok": float(not status.storage),
            "bugs": status.bugs,
        }


async def run(config: NodeConfig) -> None:
    """Runs the directory until it is stopped."""
    log = configure("directory", config.log.level, config.log.format)
    home = make_private(config.data_dir / "directory")
    gateway = local_channel(target(config, "gateway"))
    parts = GrpcParts(
        gateway_pb2_grpc.GatewayStub(gateway), relay_pb2_grpc.RelayStub(local_channel(target(config, "relay")))
    )
    settings = NodeSettings(
        config.nickname,
        SOFTWARE,
        config.relay.bandwidth,
        mix=config.mixer.published,
        padding=config.gateway.shape.text,
        listed=not config.bridge,
        succession=load_succession(home),
    )
    service = build(
        Files(config.genesis, home / "identity.key", make_private(home / "state")),
        settings,
        parts,
        GrpcPeerNetwork(gateway_pb2_grpc.GatewayStub(gateway)),
        os.urandom,
        solver=SolverProcess(config.directory.solver or SOLVER),
    )
    publish_node_id(config.sockets, service.status().node_id)
    log.info("starting", voter=service.status().voter)
    await serve(DirectoryNode(service), config.sockets / "directory.sock")


def main(argv: Sequence[str] | None = None) -> None:
    run_service("directory", NodeConfig, run, argv)


if __name__ == "__main__":
    main()
