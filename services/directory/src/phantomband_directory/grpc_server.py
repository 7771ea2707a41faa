"""The gRPC face of the service: directory.proto, and nothing but the passing on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import grpc
from phantomband.core.ids import NODE_ID_BYTES, NodeId
from phantomband.core.netdir.requests import MAX_REQUEST_BYTES
from phantomband.proto import directory_pb2 as pb
from phantomband.proto import directory_pb2_grpc as pb_grpc

from phantomband_directory.service import DirectoryService

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


MAX_OBSERVATIONS = 4096
MAX_DELAY_SECONDS = 86_400.0


class DirectoryServicer(pb_grpc.DirectoryServicer):  # type: ignore[misc]
    """Serves one `DirectoryService`."""

    def __init__(self, service: DirectoryService) -> None:
        self._service = service

    async def PeerRequest(self, request: pb.PeerRequestMessage, context: Context) -> pb.PeerReplyMessage:
        """One request of a peer or client."""
        if len(request.request) > MAX_REQUEST_BYTES or len(request.peer_link_key) not in (0, 32):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "request too long, or no link key")
        if len(request.peer_ip) not in (0, 4, 16):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "an IP address has 4 or 16 bytes")
        key, ip = bytes(request.peer_link_key), bytes(request.peer_ip)
        return pb.PeerReplyMessage(response=self._service.answer(bytes(request.request), key, ip))

    async def WatchView(self, request: pb.WatchViewRequest, context: Context) -> AsyncIterator[pb.CertifiedViewMessage]:
        """The newest view, then each newer one."""
        async for view in self._service.watch():
            yield pb.CertifiedViewMessage(view=view)

    async def Observe(self, request: pb.ObserveRequest, context: Context) -> pb.ObserveReply:
        """What the node's loops measured."""
        if len(request.observations) > MAX_OBSERVATIONS or any(
            len(o.node_id) != NODE_ID_BYTES or not 0 <= o.delay_seconds < MAX_DELAY_SECONDS
            for o in request.observations
        ):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "too many observations, or not of a relay")
        self._service.observe(
            (NodeId(bytes(o.node_id)), o.returned, o.lost, o.delay_seconds) for o in request.observations
        )
        return pb.ObserveReply()

    async def Status(self, request: pb.DirectoryStatusRequest, context: Context) -> pb.DirectoryStatus:
        """How the directory stands."""
        status = self._service.status()
        spread = status.spread
        return pb.DirectoryStatus(
            node_id=bytes(status.node_id),
            voter=status.voter,
            epoch=status.epoch,
            view_epoch=status.view_epoch,
            freshness=status.freshness,
            relays=status.relays,
            descriptors=status.descriptors,
            evidence=status.evidence,
            dropped_calls=status.dropped_calls,
            measured=status.measured,
            bad=[bytes(n) for n in status.bad],
            clock=status.clock,
            stamp=status.stamp,
            table_contacts=spread.contacts,
            table_records=spread.records,
            gossip_rounds=spread.rounds,
            gossip_bytes=spread.bytes,
            reached=spread.reached,
            unreached=spread.unreached,
            convicted=spread.convicted,
            storage=status.storage or "ok",
        )


def register(service: DirectoryService, server: grpc.aio.Server) -> None:
    """Adds the service to a server that the caller starts and stops.

    The server needs `grpc.max_send_message_length` of at least 4 MiB and some: views may be that large.
    """
    pb_grpc.add_DirectoryServicer_to_server(DirectoryServicer(service), server)
