"""The gateway's gRPC interface, for the relay and the directory of its own node."""

from __future__ import annotations

from typing import Any, Protocol

import grpc
from phantomband.core.errors import Malformed, Refused
from phantomband.core.ids import LinkId, NodeId
from phantomband.proto import gateway_pb2, gateway_pb2_grpc
from phantomband.runtime.contained import Contained
from phantomband.runtime.contained_edges import handler
from phantomband.transports.base import Address

from phantomband_gateway.directory_calls import DirectoryCalls
from phantomband_gateway.links import Links, PeerContact


class Served(Protocol):
    """The gateway service, as its gRPC interface sees it."""

    links: Links
    calls: DirectoryCalls
    addresses: tuple[Address, ...]
    contained: Contained

    def link_to_close(self, link: LinkId) -> None: ...


def _contact(peer: Any) -> PeerContact:
    addresses = tuple(Address(a.transport, a.host, a.port, dict(a.parameters)) for a in peer.addresses)
    return PeerContact(NodeId(peer.node_id), peer.link_key, addresses)


class GatewayRpc(gateway_pb2_grpc.GatewayServicer):  # type: ignore[misc]
    """Thin: every method hands over to the service."""

    def __init__(self, service: Served, link_key: bytes) -> None:
        self._service = service
        self.contained = service.contained
        self._link_key = link_key

    @handler
    async def Describe(self, request: Any, context: Any) -> Any:
        addresses = [
            gateway_pb2.TransportAddress(transport=a.transport, host=a.host, port=a.port, parameters=dict(a.parameters))
            for a in self._service.addresses
        ]
        return gateway_pb2.GatewayDescription(link_key=self._link_key, addresses=addresses)

    @handler
    async def OpenLink(self, request: Any, context: Any) -> Any:
        try:
            driver = await self._service.links.to(_contact(request.peer))
            return gateway_pb2.OpenLinkReply(link=self._service.links.ids[driver])
        except (Refused, Malformed, KeyError):
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the node cannot be reached")

    @handler
    async def CloseLink(self, request: Any, context: Any) -> Any:
        self._service.link_to_close(LinkId(request.link))
        return gateway_pb2.CloseLinkReply()

    @handler
    async def PeerCall(self, request: Any, context: Any) -> Any:
        try:
            response, ip = await self._service.calls.call(_contact(request.peer), request.request)
        except (Refused, Malformed):
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the node cannot be reached")
        return gateway_pb2.PeerCallReply(response=response, peer_ip=ip)

    @handler
    async def Reach(self, request: Any, context: Any) -> Any:
        try:
            await self._service.links.reach(_contact(request.peer))
        except (Refused, Malformed):
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the node cannot be reached")
        return gateway_pb2.ReachReply()
