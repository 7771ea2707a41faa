"""Putting the service together from files and collaborators; the common runtime gives it server and stubs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.netdir.genesis_file import load_genesis

from phantomband_directory.grpc_server import register
from phantomband_directory.parts import NodeParts, NodeSettings, PeerNetwork
from phantomband_directory.service import DirectoryService
from phantomband_directory.stamps import Solver
from phantomband_directory.store import FileStore, load_or_create_identity


@dataclass(frozen=True, slots=True)
class Files:
    """Where the service's files are."""

    genesis: Path
    """The genesis file (core/netdir/genesis_file.py)."""

    identity: Path
    """The node's identity key, mode 0600; made when absent."""

    state: Path
    """A directory of this service's own."""


def build(
    files: Files,
    settings: NodeSettings,
    parts: NodeParts,
    network: PeerNetwork,
    random: RandomSource,
    now: Callable[[], float] = time.time,
    solver: Solver | None = None,
) -> DirectoryService:
    """Loads what is on disk and makes the service.

    Raises:
        UserError: a file cannot be used; says which and what to do.
    """
    genesis = load_genesis(files.genesis)
    key = load_or_create_identity(files.identity, random)
    store = FileStore(files.state, genesis.network_id)
    return DirectoryService(genesis, key, settings, parts, network, now, random, store, solver)


async def run(service: DirectoryService, server: grpc.aio.Server) -> None:
    """Registers the service with `server`, which the caller starts and stops, and works until cancelled."""
    register(service, server)
    await service.run()
