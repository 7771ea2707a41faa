"""A real client in the test's own process, with every dialled address and every directory request written down."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from phantomband.core.bridge_line import parse_all
from phantomband.core.netdir.genesis_file import load_genesis
from phantomband.core.netdir.requests import Request, decode_request_untrusted
from phantomband.runtime.directories import make_private
from phantomband.runtime.settings import ClientConfig
from phantomband.runtime.state_files import StateFiles
from phantomband.transports.base import Accept, Address, Connection, Listener, Transport
from phantomband.transports.registry import make
from phantomband_client.choice.chooser import Chooser
from phantomband_client.choice.local_network import local_network
from phantomband_client.choice.memory import TransportMemory
from phantomband_client.choice.preference import names_of
from phantomband_client.first_links import genesis_by_bridge
from phantomband_client.guard_link import GuardLink
from phantomband_client.service import ClientParts, ClientService


@dataclass
class Seen:
    """What left the client."""

    dialled: list[tuple[str, int]] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)


class Watched(Transport):
    """A transport that writes down whom it dials."""

    def __init__(self, inner: Transport, seen: Seen) -> None:
        self.name, self._inner, self._seen = inner.name, inner, seen

    async def dial(self, address: Address, accept: Accept, timeout: float) -> Connection:
        self._seen.dialled.append((address.host, address.port))
        return await self._inner.dial(address, accept, timeout)

    async def listen(self, host: str, port: int, accept: Accept) -> Listener:
        raise AssertionError("a client listens for nobody")

    def parameters(self) -> Mapping[str, str]:
        return {}


@dataclass
class Running:
    service: ClientService
    seen: Seen
    bootstrapped: asyncio.Event


@asynccontextmanager
async def client(
    data_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    clock: Callable[[], float] = time.time,
    **settings: Any,
) -> AsyncIterator[Running]:
    """A client with these settings that runs until the block is left."""
    seen, plain = Seen(), GuardLink.directory_call

    async def call(link: GuardLink, request: bytes) -> bytes:
        seen.requests.append(decode_request_untrusted(request))
        return await plain(link, request)

    monkeypatch.setattr(GuardLink, "directory_call", call)
    config = ClientConfig(data_dir=make_private(data_dir), socks_port=0, **settings)
    bridges = parse_all(config.bridges)
    names = list(dict.fromkeys(bridge.address.transport for bridge in bridges)) or names_of(config.transport)
    files = StateFiles(data_dir)
    memory = TransportMemory(files, clock, local_network, os.urandom)
    network_id = load_genesis(config.genesis).network_id if config.genesis is not None else bridges[0].network_id
    chooser = Chooser(network_id, {name: Watched(make(name), seen) for name in names}, memory, clock)
    if config.genesis is not None:
        genesis = load_genesis(config.genesis)
    else:
        genesis = await genesis_by_bridge(bridges, files, chooser, os.urandom, pytest.fail)
    service = ClientService(ClientParts(config, genesis, chooser, os.urandom, clock, files, bridges))
    running = Running(service, seen, asyncio.Event())
    task = asyncio.create_task(service.run(running.bootstrapped.set))
    try:
        yield running
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
