"""The node's gateway and relay over gRPC, as the interfaces of `parts.py`.

Every gRPC failure becomes `Refused`: the caller asks again later.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable
from typing import TypeVar

import grpc
from phantomband.core.errors import Malformed, Refused, UserError
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.exit_policy import ExitPolicy
from phantomband.proto import gateway_pb2 as gateway_pb
from phantomband.proto import gateway_pb2_grpc as gateway_grpc
from phantomband.proto import relay_pb2 as relay_pb
from phantomband.proto import relay_pb2_grpc as relay_grpc

from phantomband_directory.parts import Contact, GatewayFacts, RelayFacts

DESCRIBE_SECONDS = 2.0
"""A gateway or relay that takes longer is not there."""

_T = TypeVar("_T")


class GrpcParts:
    """`parts.NodeParts` over the stubs of gateway.proto and relay.proto."""

    def __init__(self, gateway: gateway_grpc.GatewayStub, relay: relay_grpc.RelayStub) -> None:
        self._gateway, self._relay = gateway, relay

    async def gateway(self) -> GatewayFacts:
        """What the gateway says of itself."""
        call = self._gateway.Describe(gateway_pb.DescribeGatewayRequest(), timeout=DESCRIBE_SECONDS)
        wire: gateway_pb.GatewayDescription = await _or_refused(call, "gateway")
        try:
            return GatewayFacts(bytes(wire.link_key), tuple(from_wire(address) for address in wire.addresses))
        except (Malformed, ValueError) as e:
            raise Refused(f"the gateway described itself wrongly: {e}") from e

    async def relay(self) -> RelayFacts:
        """What the relay says of itself."""
        call = self._relay.Describe(relay_pb.DescribeRelayRequest(), timeout=DESCRIBE_SECONDS)
        wire: relay_pb.RelayDescription = await _or_refused(call, "relay")
        try:
            policy = ExitPolicy.parse(wire.exit_policy.split("\n")).text()
        except UserError as e:
            raise Refused(f"the relay described itself wrongly: {e}") from e
        return RelayFacts(bytes(wire.onion_key), policy, bytes(wire.next_onion_key) or bytes(32), wire.capacity)


class GrpcPeerNetwork:
    """`parts.PeerNetwork` over the stub of gateway.proto."""

    def __init__(self, gateway: gateway_grpc.GatewayStub) -> None:
        self._gateway = gateway

    async def call(self, contact: Contact, request: bytes) -> bytes:
        """One request by way of this node's gateway and the contact's."""
        return (await self.ask(contact, request))[0]

    async def ask(self, contact: Contact, request: bytes) -> tuple[bytes, bytes]:
        """The same, with the IP address at the other end of the link."""
        call = self._gateway.PeerCall(gateway_pb.PeerCallRequest(peer=_peer(contact), request=request))
        reply: gateway_pb.PeerCallReply = await _or_refused(call, "gateway")
        return bytes(reply.response), bytes(reply.peer_ip)

    async def reach(self, contact: Contact) -> None:
        """A new link, by way of this node's gateway, which closes it again."""
        await _or_refused(self._gateway.Reach(gateway_pb.ReachRequest(peer=_peer(contact))), "gateway")


def _peer(contact: Contact) -> gateway_pb.Peer:
    return gateway_pb.Peer(
        node_id=bytes(contact.node_id),
        link_key=contact.link_key,
        addresses=[to_wire(address) for address in contact.addresses],
    )


def from_wire(address: gateway_pb.TransportAddress) -> NodeAddress:
    """Raises: Malformed or ValueError when it is no address that a descriptor can carry."""
    host = str(ipaddress.ip_address(address.host))
    return NodeAddress(address.transport, host, address.port, tuple(sorted(address.parameters.items())))


def to_wire(address: NodeAddress) -> gateway_pb.TransportAddress:
    """The same as a message of gateway.proto."""
    return gateway_pb.TransportAddress(
        transport=address.transport,
        host=address.host,
        port=address.port,
        parameters=dict(address.parameters),
    )


async def _or_refused(call: Awaitable[_T], whom: str) -> _T:
    try:
        return await call
    except grpc.aio.AioRpcError as e:
        raise Refused(f"the {whom} did not answer ({e.code().name})") from e
