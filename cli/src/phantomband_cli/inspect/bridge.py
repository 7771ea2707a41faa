"""`bridge line`: what a client needs to begin at a node that runs."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import grpc
from phantomband.core.bridge_line import BridgeLine
from phantomband.core.errors import Malformed, UserError
from phantomband.core.ids import NodeId
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.genesis_file import load_genesis
from phantomband.proto import gateway_pb2, gateway_pb2_grpc
from phantomband.runtime import unix_path
from phantomband.runtime.keystore import NODE_ID_FILE
from phantomband.runtime.settings import NodeConfig, load

from phantomband_cli.inspect.source import ANSWER_SECONDS, Where, node_sockets
from phantomband_cli.testnet.state import find


def bridge_lines(where: Where, transport: str | None) -> list[str]:
    """The node's lines, one for each address.

    Args:
        transport: only addresses of this one; None: of all.

    Raises:
        UserError: the node does not run, has no such address, or does not know where others reach it.
    """
    if where.config is not None:
        config = load(NodeConfig, where.config)
        genesis, sockets = config.genesis, config.sockets
    else:
        layout = find(where.directory)
        genesis, sockets = layout.genesis, node_sockets(layout, where.node or "n1")
    network_id = load_genesis(genesis).network_id
    node_id, described = _node_id(sockets), _describe(sockets / "gateway.sock")
    lines = [
        BridgeLine(address, node_id, bytes(described.link_key), network_id).text()
        for address in map(_address, described.addresses)
        if transport in (None, address.transport)
    ]
    if not lines:
        raise UserError(f"--transport {transport}: the node does not listen by it")
    return lines


def _node_id(sockets: Path) -> NodeId:
    try:
        return NodeId.parse((sockets / NODE_ID_FILE).read_text().strip())
    except (OSError, Malformed):
        raise UserError(f"no node runs at {sockets}. Start it, or say which with --config") from None


def _describe(socket: Path) -> gateway_pb2.GatewayDescription:
    with grpc.insecure_channel(unix_path.target(socket)) as channel:
        try:
            stub = gateway_pb2_grpc.GatewayStub(channel)
            described: gateway_pb2.GatewayDescription = stub.Describe(
                gateway_pb2.DescribeGatewayRequest(), timeout=ANSWER_SECONDS
            )
        except grpc.RpcError:
            raise UserError(f"no gateway answers at {socket}. Start the node, or say which with --config") from None
    return described


def _address(wire: gateway_pb2.TransportAddress) -> NodeAddress:
    if ipaddress.ip_address(wire.host).is_unspecified:
        raise UserError(
            f"the node listens on {wire.host} and does not say where others reach it. Set gateway.advertise"
        )
    return NodeAddress(wire.transport, wire.host, wire.port, tuple(sorted(wire.parameters.items())))
