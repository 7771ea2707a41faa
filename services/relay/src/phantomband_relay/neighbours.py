"""Other nodes, as the relay knows them: from the certified views of its own directory, reached through its gateway."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping

import grpc
import grpc.aio
from phantomband.core.errors import Malformed
from phantomband.core.ids import LinkId, NodeId
from phantomband.core.netdir.certified import CertifiedView
from phantomband.core.netdir.measures import Measure
from phantomband.core.netdir.view import View, ViewEntry
from phantomband.proto import directory_pb2, directory_pb2_grpc, gateway_pb2, gateway_pb2_grpc
from phantomband.runtime.rpc import local_channel

VIEWS_KEPT = 3
"""Relays hold three views, so that a client whose view is one epoch off can still extend (PROTOCOL.md section 7)."""

RETRY_SECONDS = 0.2
OPEN_SECONDS = 12.0
REPORT_SECONDS = 5.0


class Neighbours:
    """Resolves node ids in our own views only: no address is ever chosen by a client."""

    def __init__(self, gateway: str, directory: str) -> None:
        """Args: gRPC targets of this node's gateway and directory."""
        self._gateway = local_channel(gateway)
        self._directory = local_channel(directory)
        self._views: deque[View] = deque(maxlen=VIEWS_KEPT)
        self._link_keys: frozenset[bytes] = frozenset()
        self._links: frozenset[tuple[str, int]] = frozenset()

    @property
    def known(self) -> int:
        return len(self._views[-1].entries) if self._views else 0

    @property
    def view(self) -> View | None:
        """The newest."""
        return self._views[-1] if self._views else None

    def find(self, node: NodeId) -> ViewEntry | None:
        """The newest entry of a node."""
        for view in reversed(self._views):
            if (entry := view.find(node)) is not None:
                return entry
        return None

    async def watch_view(self) -> None:
        """Takes every new view from the directory, until cancelled."""
        while True:
            try:
                stub = directory_pb2_grpc.DirectoryStub(self._directory)
                async for message in stub.WatchView(directory_pb2.WatchViewRequest()):
                    self._take(message.view)
            except (grpc.RpcError, Malformed):
                pass
            await asyncio.sleep(RETRY_SECONDS)

    def _take(self, data: bytes) -> None:
        view = CertifiedView.decode_untrusted(data).view
        if not self._views or view.epoch > self._views[-1].epoch:
            self._views.append(view)
            self._link_keys = frozenset(entry.link_key for known in self._views for entry in known.entries)
            self._links = frozenset((a.host, a.port) for entry in view.entries for a in entry.addresses)

    def is_relay(self, link_key: bytes) -> bool:
        """Whether this is the link key of a relay in our views."""
        return link_key in self._link_keys

    def is_link(self, address: str, port: int) -> bool:
        """Whether some node of the newest view takes links there. Args: address: canonical text of an IP address."""
        return (address, port) in self._links

    async def open_link(self, node: NodeId) -> LinkId | None:
        """A link to `node`, or None when we do not know it or cannot reach it."""
        entry = self.find(node)
        if entry is None:
            return None
        addresses = [
            gateway_pb2.TransportAddress(transport=a.transport, host=a.host, port=a.port, parameters=dict(a.parameters))
            for a in entry.addresses
        ]
        peer = gateway_pb2.Peer(node_id=node, link_key=entry.link_key, addresses=addresses)
        try:
            stub = gateway_pb2_grpc.GatewayStub(self._gateway)
            reply = await stub.OpenLink(gateway_pb2.OpenLinkRequest(peer=peer), timeout=OPEN_SECONDS)
        except grpc.RpcError:
            return None
        return LinkId(reply.link)

    async def report(self, measured: Mapping[NodeId, Measure]) -> None:
        """Tells the directory what loops said of relays since the last time; lost when it does not answer."""
        observations = [
            directory_pb2.Observation(
                node_id=bytes(n), returned=int(m.returned), lost=int(m.lost), delay_seconds=m.delay
            )
            for n, m in measured.items()
        ]
        try:
            stub = directory_pb2_grpc.DirectoryStub(self._directory)
            await stub.Observe(directory_pb2.ObserveRequest(observations=observations), timeout=REPORT_SECONDS)
        except grpc.RpcError:
            pass

    async def close_link(self, link: LinkId) -> None:
        """Tells the gateway that the peer of this link breaks the protocol for good."""
        try:
            stub = gateway_pb2_grpc.GatewayStub(self._gateway)
            await stub.CloseLink(gateway_pb2.CloseLinkRequest(link=link), timeout=OPEN_SECONDS)
        except grpc.RpcError:
            pass
