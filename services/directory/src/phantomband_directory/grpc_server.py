"""The gRPC face of the service: directory.proto, and nothing but the passing on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import grpc
from phantomband.core.netdir.requests import MAX_REQUEST_BYTES
from phantomband.proto import directory_pb2 as pb
from phantomband.proto import directory_pb2_grpc as pb_grpc

from phantomband_directory.service import DirectoryService

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class DirectoryServicer(pb_grpc.DirectoryServicer):  # type: ignore[misc]
    """Serves one `DirectoryService`."""

    def __init__(self, service: DirectoryService) -> None:
        self._service = service

    async def PeerRequest(self, request: pb.PeerRequestMessage, context: Context) -> pb.PeerReplyMessage:
        """One request of a peer or client."""
        if len(request.request) > MAX_REQUEST_BYTES or len(request.peer_link_key) not in (0, 32):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "request too long, or no link key")
        return pb.PeerReplyMessage(response=self._service.answer(bytes(request.request), bytes(request.peer_link_key)))

    async def WatchView(self, request: pb.WatchViewRequest, context: Context) -> AsyncIterator[pb.CertifiedViewMessage]:
        """The newest view, then each newer one."""
        async for view in self._service.watch():
            yield pb.CertifiedViewMessage(view=view)

    async def Status(self, request: pb.DirectoryStatusRequest, context: Context) -> pb.DirectoryStatus:
        """How the directory stands."""
        status = self._service.status()
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
        )


def register(service: DirectoryService, server: grpc.aio.Server) -> None:
    """Adds the service to a server that the caller starts and stops.

    The server needs `grpc.max_send_message_length` of at least 4 MiB and some: views may be that large.
    """
    pb_grpc.add_DirectoryServicer_to_server(DirectoryServicer(service), server)
