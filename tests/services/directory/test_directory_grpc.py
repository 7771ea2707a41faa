"""The gRPC face, over a real Unix socket."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from phantomband.core.netdir import replies, requests
from phantomband.core.netdir.certified import verify_untrusted
from phantomband.core.netdir.genesis_file import save_genesis
from phantomband.proto import directory_pb2 as pb
from phantomband.proto import directory_pb2_grpc as pb_grpc
from phantomband.runtime.keystore import write_whole
from phantomband_directory.app import Files, build
from phantomband_directory.grpc_server import MAX_OBSERVATIONS, register


def test_requests_views_and_status(network_of: Any, tmp_path: Path) -> None:
    network = network_of(1)
    node = network.node(0)
    genesis = network.genesis
    began = time.monotonic()

    def now() -> float:
        """Real seconds from just before the first cut-off on."""
        return genesis.clock.cutoff(1) - 0.2 + time.monotonic() - began

    save_genesis(genesis, tmp_path / "genesis.json")
    (tmp_path / "keys").mkdir(mode=0o700)
    write_whole(tmp_path / "keys" / "identity", network.key(0).private_bytes())
    files = Files(tmp_path / "genesis.json", tmp_path / "keys" / "identity", tmp_path / "state")

    async def main() -> None:
        service = build(files, node.settings, node, network, bytes, now)
        server = grpc.aio.server()
        register(service, server)
        server.add_insecure_port(f"unix:{tmp_path}/d.sock")
        await server.start()
        async with grpc.aio.insecure_channel(f"unix:{tmp_path}/d.sock") as channel:
            stub = pb_grpc.DirectoryStub(channel)
            views = stub.WatchView(pb.WatchViewRequest())
            runner = asyncio.ensure_future(service.run())
            message = await asyncio.wait_for(views.read(), 5)
            certified = verify_untrusted(message.view, genesis, now(), 0)
            assert [entry.nickname for entry in certified.view.entries] == ["n0"]
            request = requests.encode_request(requests.GetView(0))
            reply = await stub.PeerRequest(pb.PeerRequestMessage(request=request))
            assert replies.decode_reply_untrusted(reply.response) == replies.ViewReply(message.view)
            status = await stub.Status(pb.DirectoryStatusRequest())
            assert (status.voter, status.view_epoch, status.relays, status.descriptors) == (True, 1, 1, 1)
            assert (status.storage, status.table_contacts, status.reached, status.convicted) == ("ok", 0, 0, 0)
            ranges = requests.encode_request(requests.Reconcile(b"x"))
            for ip in (b"", b"\x7f\0\0\1", bytes(16)):
                reply = await stub.PeerRequest(pb.PeerRequestMessage(request=ranges, peer_ip=ip))
                refused_reply = replies.decode_reply_untrusted(reply.response)
                assert isinstance(refused_reply, replies.RefusedReply)
                assert refused_reply.code is replies.Code.NOT_HERE
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.PeerRequest(pb.PeerRequestMessage(request=ranges, peer_ip=b"12345"))
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            node_id = bytes((7,)) * 32
            seen = pb.Observation(node_id=node_id, returned=1, lost=200, delay_seconds=0.5)
            await stub.Observe(pb.ObserveRequest(observations=[seen]))
            status = await stub.Status(pb.DirectoryStatusRequest())
            assert (status.measured, list(status.bad)) == (1, [node_id])
            for wrong in (pb.Observation(node_id=b"short"), pb.Observation(node_id=node_id, delay_seconds=-1)):
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await stub.Observe(pb.ObserveRequest(observations=[wrong]))
                assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            with pytest.raises(grpc.aio.AioRpcError):
                await stub.Observe(pb.ObserveRequest(observations=[seen] * (MAX_OBSERVATIONS + 1)))
            runner.cancel()
            await asyncio.gather(runner, return_exceptions=True)
        await server.stop(None)

    asyncio.run(main())
    assert (tmp_path / "state" / "view").stat().st_size > 3000
