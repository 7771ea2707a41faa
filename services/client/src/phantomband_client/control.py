"""The client's gRPC control interface, for the command line and any page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from phantomband.core.bridge_line import BridgeLine
from phantomband.core.profiles import ProfileName
from phantomband.proto import client_pb2, client_pb2_grpc
from phantomband.runtime.settings import ClientConfig

from phantomband_client.choice.chooser import Chooser
from phantomband_client.choice.memory import Known
from phantomband_client.guard_link import GuardLink
from phantomband_client.managed import Managed
from phantomband_client.network_view import NetworkView
from phantomband_client.proxy import Proxy
from phantomband_client.session import Session


@dataclass(slots=True)
class Progress:
    """How far the bootstrap is."""

    percent: int = 0
    phase: str = "starting"


class Controlled(Protocol):
    """The client service, as its control interface sees it."""

    config: ClientConfig
    progress: Progress
    view: NetworkView
    chooser: Chooser
    bridges: tuple[BridgeLine, ...]
    proxies: list[Proxy]
    addresses: dict[str, str]

    @property
    def trouble(self) -> str: ...

    @property
    def sessions(self) -> Mapping[ProfileName, Session]: ...

    @property
    def transport(self) -> str: ...

    @property
    def circuits(self) -> list[tuple[Session, Managed]]: ...

    @property
    def streams_open(self) -> int: ...

    def new_identity(self) -> int: ...

    def status(self) -> Mapping[str, float]: ...

    async def next_progress(self) -> None:
        """Returns when the bootstrap has gone further."""


class ControlRpc(client_pb2_grpc.ClientServicer):  # type: ignore[misc]
    """Thin: every method reads the service."""

    def __init__(self, service: Controlled) -> None:
        self._service = service

    def _progress(self) -> Any:
        progress = self._service.progress
        return client_pb2.BootstrapProgress(percent=progress.percent, phase=progress.phase)

    async def Status(self, request: Any, context: Any) -> Any:
        service = self._service
        view, freshness = service.view.current, service.view.freshness
        return client_pb2.ClientStatus(
            bootstrap=self._progress(),
            socks_address=service.addresses.get("socks", ""),
            http_address=service.addresses.get("http", ""),
            circuits_open=sum(m.open for _, m in service.circuits),
            streams_open=service.streams_open,
            bytes_in=sum(p.bytes_in for p in service.proxies),
            bytes_out=sum(p.bytes_out for p in service.proxies),
            view_epoch=view.epoch if view is not None else 0,
            view_nodes=len(view.entries) if view is not None else 0,
            view_freshness=freshness.value if freshness is not None else "none",
            view_age_epochs=service.view.age_epochs,
            transport=service.transport,
            profile=service.config.profile,
            loops_returned=int(service.status()["loops_returned"]),
            loops_lost=int(service.status()["loops_lost"]),
            padding_cells=int(service.status()["padding_cells"]),
            trouble=service.trouble,
        )

    async def Bootstrap(self, request: Any, context: Any) -> AsyncIterator[Any]:
        while True:
            progress = self._progress()
            yield progress
            if progress.percent >= 100:
                return
            if self._service.progress.percent == progress.percent:
                await self._service.next_progress()

    async def Circuits(self, request: Any, context: Any) -> Any:
        now = asyncio.get_running_loop().time()
        return client_pb2.CircuitsReply(circuits=[_describe(s, m, now) for s, m in self._service.circuits])

    async def NewIdentity(self, request: Any, context: Any) -> Any:
        return client_pb2.NewIdentityReply(circuits_retired=self._service.new_identity())

    async def Transports(self, request: Any, context: Any) -> Any:
        service = self._service
        memory = service.chooser.memory
        links = [link for session in service.sessions.values() for link in session.links]
        return client_pb2.TransportsReply(
            transports=[
                _describe_transport(name, memory.of(name), memory.pausing(name), links)
                for name in memory.in_order(service.chooser.transports)
            ],
            events=[client_pb2.TransportEvent(at=e.at, transport=e.transport, what=e.what)
                    for e in service.chooser.events],
            bridges=len(service.bridges),
        )  # fmt: skip


def _describe_transport(name: str, known: Known, pausing: bool, links: Sequence[GuardLink]) -> Any:
    carried = [link for link in links if link.up and link.transport == name]
    return client_pb2.TransportDescription(
        name=name,
        links=len(carried),
        streams=sum(link.streams for link in carried),
        worked=known.worked,
        failed=known.failed,
        failures=known.failures,
        connect_seconds=known.seconds,
        pausing=pausing,
    )


def _describe(session: Session, managed: Managed, now: float) -> Any:
    circuit = managed.circuit
    state = circuit.state.name.lower() if circuit is not None else "building"
    congestion = circuit.endpoint.congestion if circuit is not None else None
    return client_pb2.CircuitDescription(
        id=managed.number,
        state="retired" if managed.retired else ("ready" if state == "open" and managed.isolation is None else state),
        hops=[client_pb2.Hop(node_id=str(e.node_id), nickname=e.nickname) for e in managed.path],
        streams=managed.streams,
        age_seconds=now - managed.started,
        round_trip_seconds=congestion.round_trip if congestion is not None else 0,
        profile=session.profile.name,
        window_cells=congestion.window if congestion is not None else 0,
    )
