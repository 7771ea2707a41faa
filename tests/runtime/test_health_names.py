"""What the health service says of each service by its name, as reflection lists them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from phantomband.proto import relay_pb2_grpc
from phantomband.runtime.service import Service, serve

State = health_pb2.HealthCheckResponse


class Named(Service):
    """A service that serves when it is told to."""

    name = "named"

    def __init__(self) -> None:
        self.may_serve = asyncio.Event()
        self.may_end = asyncio.Event()

    def add_to(self, server: grpc.aio.Server) -> list[str]:
        relay_pb2_grpc.add_RelayServicer_to_server(relay_pb2_grpc.RelayServicer(), server)
        return ["phantomband.Relay"]

    async def run(self, ready: Callable[[], None]) -> None:
        await self.may_serve.wait()
        ready()
        await asyncio.Event().wait()

    async def drain(self) -> None:
        await self.may_end.wait()


async def _listed(channel: grpc.aio.Channel) -> list[str]:
    async def ask():  # type: ignore[no-untyped-def]
        yield reflection_pb2.ServerReflectionRequest(list_services="")

    async for reply in reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(ask()):
        return [service.name for service in reply.list_services_response.service]
    raise AssertionError("reflection did not answer")


async def _become(channel: grpc.aio.Channel, names: list[str], state: int) -> None:
    """Returns when each of them has this state: a watcher is told of every change."""
    for name in names:
        watching = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=name), timeout=10)
        async for reply in watching:
            if reply.status == state:
                break
        watching.cancel()


def test_whatever_reflection_names_has_a_health_of_its_own(tmp_path: Path) -> None:
    async def main() -> None:
        service, stop = Named(), asyncio.Event()
        serving = asyncio.ensure_future(serve(service, tmp_path / "s.sock", stop))
        async with grpc.aio.insecure_channel(f"unix:{tmp_path / 's.sock'}") as channel:
            await asyncio.wait_for(channel.channel_ready(), 10)
            names = await _listed(channel)
            assert {"phantomband.Relay", "phantomband.Status", "grpc.health.v1.Health"} <= set(names)
            await _become(channel, ["", *names], State.NOT_SERVING)
            service.may_serve.set()
            await _become(channel, ["", *names], State.SERVING)
            stop.set()
            await _become(channel, ["", *names], State.NOT_SERVING)
            service.may_end.set()
        await serving

    asyncio.run(main())
