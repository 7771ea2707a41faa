"""What every service of a node has in common: event loop, gRPC server, health, reflection, status, orderly end."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NoReturn

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from phantomband.core.errors import UserError
from phantomband.proto import node_pb2, node_pb2_grpc
from phantomband.runtime import unix_path
from phantomband.runtime.allocator import tune_allocator
from phantomband.runtime.arguments import C, parse
from phantomband.runtime.directories import make_private
from phantomband.runtime.lane.grpc_driver import SERVER_OPTIONS
from phantomband.runtime.standard_files import open_standard_files

DRAIN_SECONDS = 10.0
"""After SIGTERM a service goes on for at most so long, until what it carries has ended."""


QUIET_SECONDS = 0.3
"""A service that drains and has moved no cell for so long has nothing under way."""


def new_incarnation() -> int:
    """Random 64 bits of this process."""
    return int.from_bytes(os.urandom(8), "big") or 1


class Service(ABC):
    """One service of a node, driven by `serve`."""

    name: str
    incarnation: int

    @abstractmethod
    def add_to(self, server: grpc.aio.Server) -> list[str]:
        """Registers the service's gRPC interfaces; returns their full names, for reflection."""

    @abstractmethod
    async def run(self, ready: Callable[[], None]) -> None:
        """Works until cancelled; calls `ready` once it can serve."""

    async def drain(self) -> None:  # noqa: B027 - most services have nothing to drain
        """SIGTERM came: take nothing new, return when what is under way has ended. Bounded by DRAIN_SECONDS."""

    def status(self) -> Mapping[str, float]:
        """Coarse counters and gauges."""
        return {}


class _Health:
    """What `grpc.health.v1.Health` says, for "" and for each service that reflection names: watchers ask for either."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = ("", *names)
        self.servicer = health.aio.HealthServicer()

    async def say(self, status: int) -> None:
        """All of them share one process, and so one state."""
        for name in self._names:
            await self.servicer.set(name, status)


class _Status(node_pb2_grpc.StatusServicer):  # type: ignore[misc]
    def __init__(self, service: Service) -> None:
        self._service = service
        self.state = "starting"

    async def Get(self, request: Any, context: Any) -> Any:
        return node_pb2.StatusReply(service=self._service.name, values=dict(self._service.status()), state=self.state)


async def quiet(count: Callable[[], int]) -> None:
    """Returns when `count()` has not changed for QUIET_SECONDS: what was under way has ended."""
    before = count()
    while True:
        await asyncio.sleep(QUIET_SECONDS)
        now = count()
        if now == before:
            return
        before = now


async def serve(service: Service, socket: Path, stop: asyncio.Event | None = None) -> None:
    """Runs `service` with its gRPC server on a Unix socket until SIGTERM, SIGINT or `stop`.

    Raises:
        UserError: the socket cannot be bound.
    """
    loop = asyncio.get_running_loop()
    stopped = stop or asyncio.Event()
    if stop is None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: None)  # settings are read at the start only
    make_private(socket.parent)
    async with AsyncExitStack() as stack:
        server = grpc.aio.server(options=SERVER_OPTIONS)
        status = _Status(service)
        names = [*service.add_to(server), "phantomband.Status", health.SERVICE_NAME, reflection.SERVICE_NAME]
        checks = _Health(names)
        health_pb2_grpc.add_HealthServicer_to_server(checks.servicer, server)
        node_pb2_grpc.add_StatusServicer_to_server(status, server)
        reflection.enable_server_reflection(names, server)
        bind(server, socket)
        await server.start()
        stack.push_async_callback(server.stop, 0.2)

        def ready() -> None:
            status.state = "serving"
            stack.push_async_callback(checks.say, health_pb2.HealthCheckResponse.NOT_SERVING)
            background.create_task(checks.say(health_pb2.HealthCheckResponse.SERVING))

        await checks.say(health_pb2.HealthCheckResponse.NOT_SERVING)
        async with asyncio.TaskGroup() as background:
            work = background.create_task(service.run(ready))
            await _first(stopped.wait(), work)
            status.state = "draining"
            await checks.say(health_pb2.HealthCheckResponse.NOT_SERVING)
            if not work.done():
                try:
                    async with asyncio.timeout(DRAIN_SECONDS):
                        await service.drain()
                except TimeoutError:
                    pass
                work.cancel()


async def _first(waiting: Coroutine[Any, Any, Any], work: asyncio.Task[None]) -> None:
    """Returns when either is done; the other one is left (work) or cancelled (waiting)."""
    waiter = asyncio.ensure_future(waiting)
    try:
        await asyncio.wait({waiter, work}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiter.cancel()


def bind(server: grpc.aio.Server, socket: Path) -> None:
    """Binds a gRPC server to a Unix socket that only we can open."""
    where = unix_path.target(socket)
    before = os.umask(0o177)
    try:
        server.add_insecure_port(where)
    except RuntimeError:
        raise UserError(f"{socket}: cannot be bound. Is the service already running?") from None
    finally:
        os.umask(before)


def raise_file_limit() -> None:
    """Takes as many open files as the system lets us: each stream and link is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def mistake(error: UserError) -> NoReturn:
    """Tells the person who started us, without a traceback; exit code 2 says that starting again will not help."""
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(2) from None


def run_service(
    service: str, kind: type[C], run: Callable[[C], Coroutine[Any, Any, None]], argv: Sequence[str] | None
) -> None:
    """A service's entry point: reads its configuration by the command line, then runs it."""
    open_standard_files()
    try:
        config = parse(service, kind, argv)
    except UserError as e:
        mistake(e)
    run_main(run(config))


class PartLost(Exception):
    """A part that the service cannot do without has ended, killed perhaps: started again, the service has a new one."""


def run_main(main: Coroutine[Any, Any, None]) -> None:
    """Runs a service's main coroutine: allocator, uvloop where there is one. A user's mistake and a lost part give a
    line, not a traceback."""
    tune_allocator()
    raise_file_limit()
    try:
        import uvloop

        factory: Callable[[], asyncio.AbstractEventLoop] | None = uvloop.new_event_loop
    except ImportError:
        factory = None
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main)
    except* UserError as group:
        for error in _flat(group):
            print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except* PartLost as group:
        for error in _flat(group):
            print(f"error: {error}: ends, to be started again", file=sys.stderr)
        raise SystemExit(1) from None
    except* KeyboardInterrupt:
        raise SystemExit(130) from None


def _flat(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    out: list[BaseException] = []
    for error in group.exceptions:
        out += _flat(error) if isinstance(error, BaseExceptionGroup) else [error]
    return out
