"""Every task and every callback of the relay: an error in one, expected or not, ends what it was for and no more."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc.aio
import pytest
from phantomband.core.circuit.batch import encode_run
from phantomband.core.circuit.relay_types import HandshakeJob
from phantomband.core.errors import Bug, Forged, Malformed, Refused
from phantomband.core.handshake.ntor import CLIENT_BYTES, OnionKey
from phantomband.core.ids import CircuitId, HopNumber, LinkId, NodeId
from phantomband.core.netdir.exit_policy import ExitPolicy
from phantomband.runtime import frames
from phantomband.runtime.frames import Frame
from phantomband.runtime.lane.base import Driver, LanePeer
from phantomband_relay.exit import ExitRules
from phantomband_relay.service import RelayParts, RelayService, _Rpc
from phantomband_relay.worker import _FAULT, _answer_or_fault
from world import NETWORK_ID, Seeded

ERRORS = (Malformed, Forged, Refused, Bug, KeyError, ValueError, OSError, RecursionError)
LINK = LinkId(1)


def failing(error: type[Exception]) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> None:
        raise error("from a peer")

    return fail


def failing_task(error: type[Exception]) -> Callable[..., Any]:
    async def fail(*_: Any, **__: Any) -> None:
        raise error("from a peer")

    return fail


class Rig:
    """A relay without neighbours."""

    def __init__(self, path: Path) -> None:
        ours, self.worker = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        keys: Any = SimpleNamespace(accepted=(OnionKey(b"o" * 32),))
        ring: Any = SimpleNamespace(keys=keys, turn=lambda: False, until_turn=lambda: 60.0)
        self.capacity: Any = SimpleNamespace(
            came=lambda size: None, went=lambda size: None, most=0, save=lambda: None, run=asyncio.Event().wait
        )
        self.responder: Any = SimpleNamespace(admit=lambda skin, hop: None)
        parts = RelayParts(
            path, "unix:/nowhere/g", "unix:/nowhere/m", "unix:/nowhere/d", Driver.UNIX, ring, self.responder,
            self.capacity, ours, ExitRules(ExitPolicy.parse(()), False, 10, 1.0), Seeded(1), NodeId(b"n" * 32),
            NETWORK_ID, 1.0,
        )  # fmt: skip
        self.parts = parts
        self.service: Any = RelayService(parts)
        self.gateway = self.service._accept_lane(LanePeer("gateway", 1))

    @property
    def bugs(self) -> float:
        return float(self.service.status()["bugs"])

    def frame(self, kind: Frame, payload: bytes) -> None:
        self.gateway.frame(kind, memoryview(payload))


def run(path: Path, test: Callable[[Rig], Any]) -> None:
    async def main() -> None:
        rig = Rig(path)
        try:
            async with asyncio.timeout(30):
                await test(rig)
        finally:
            rig.service._handshakes.close()
            rig.worker.close()

    asyncio.run(main())


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("kind", list(Frame))
def test_errors_in_frames_of_the_gateway(tmp_path: Path, error: type[Exception], kind: Frame) -> None:
    payloads = {
        Frame.CELLS: b"".join(map(bytes, encode_run(LINK, bytes(2048)))),
        Frame.LINK_UP: frames.link_up(LINK, True, None),
        Frame.LINK_DOWN: frames.link_down(LINK),
        Frame.OVERFLOW: frames.overflow(LINK, bytes(4)),
    }

    async def test(rig: Rig) -> None:
        machine = rig.service.machine
        for name in ("cells", "link_up", "link_down", "reset", "overflow"):
            setattr(machine, name, failing(error))
        rig.frame(kind, payloads.get(kind, b""))
        assert rig.bugs == 1
        rig.frame(kind, b"\1")
        rig.gateway.down()
        assert rig.bugs == 3

    run(tmp_path, test)


@pytest.mark.parametrize("error", ERRORS)
def test_errors_in_timers_and_in_the_flush(tmp_path: Path, error: type[Exception]) -> None:
    async def test(rig: Rig) -> None:
        machine = rig.service.machine
        slots: list[float] = []
        machine.slots = failing(error)
        rig.service._run_slots()
        machine.slots = slots.append
        await asyncio.sleep(0.2)
        assert (rig.bugs, len(slots)) == (1, 1), "the next slot is looked for all the same"
        rig.service._mixer = SimpleNamespace(up=True, buffered=0)
        machine.flush = failing(error)
        rig.service.wake()
        await asyncio.sleep(0)
        assert rig.bugs == 2
        machine.flush = lambda now: None
        rig.service.wake()
        await asyncio.sleep(0)
        assert not rig.service._flushing
        machine.reset = failing(error)
        rig.service._mixer_down()
        assert rig.bugs == 3

    run(tmp_path, test)


@pytest.mark.parametrize("error", ERRORS)
def test_errors_in_tasks_that_peers_drive(tmp_path: Path, error: type[Exception]) -> None:
    async def test(rig: Rig) -> None:
        ready: list[tuple[NodeId, LinkId | None]] = []
        rig.service.machine.link_ready = lambda node, link: ready.append((node, link))
        rig.service._neighbours.open_link = failing_task(error)
        rig.service._neighbours.close_link = failing_task(error)
        node = NodeId(b"x" * 32)
        async with asyncio.TaskGroup() as tasks:
            rig.service.contained.start(tasks)
            rig.service.open_link(node)
            rig.service.close_link(LINK)
        assert ready == [(node, None)], "the circuits that waited for it end"
        assert rig.bugs == 2

    run(tmp_path, test)


@pytest.mark.parametrize("error", ERRORS)
def test_no_loop_of_the_service_ends_it(tmp_path: Path, error: type[Exception], monkeypatch: Any) -> None:
    """Each begins again after a pause; what a peer says goes on being served."""

    async def test(rig: Rig) -> None:
        service = rig.service
        service._mixer.run = failing_task(error)
        service._mixer.wait_up = lambda: asyncio.sleep(0)
        service._neighbours.watch_view = failing_task(error)
        service._keepalive = failing_task(error)
        service._turn_keys = failing_task(error)
        service._loops.run = failing_task(error)
        rig.capacity.run = failing_task(error)
        ready = asyncio.Event()
        running = asyncio.ensure_future(service.run(ready.set))
        await ready.wait()
        for _ in range(5):
            await asyncio.sleep(0)
        assert not running.done()
        assert rig.bugs == 6
        asyncio.get_running_loop().call_soon(failing(error))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert rig.bugs == 7, "callbacks that nobody wrapped are counted too"
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    async def main() -> None:
        rig = Rig(tmp_path)
        await test(rig)
        rig.worker.close()

    asyncio.run(main())


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_in_a_job_does_not_end_the_worker(error: type[Exception]) -> None:
    responder: Any = SimpleNamespace(answer=failing(error))
    job = (1).to_bytes(8, "big") + bytes((1,)) + bytes(1568)
    assert _answer_or_fault(responder, job) == (b"" if issubclass(error, Malformed) else _FAULT)


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_with_an_answer_of_the_worker_is_contained(tmp_path: Path, error: type[Exception]) -> None:
    async def test(rig: Rig) -> None:
        answered = asyncio.Event()

        def done(*_: Any) -> None:
            answered.set()
            raise error("from a peer")

        rig.service.machine.handshake_done = done
        rig.service._handshakes._wanted = lambda job: True
        rig.service.handshake(HandshakeJob(LINK, CircuitId(b"\0\0\0\1"), HopNumber(1), bytes(CLIENT_BYTES)))
        rig.worker.setblocking(False)
        rig.worker.recv(4096)  # the keys
        rig.worker.recv(4096)
        rig.worker.send((1).to_bytes(8, "big") + _FAULT)
        await answered.wait()
        assert rig.bugs == 2
        assert rig.service._handshakes.waiting == 0

    run(tmp_path, test)


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_in_a_call_ends_that_call(tmp_path: Path, error: type[Exception]) -> None:
    class Context:
        async def abort(self, code: grpc.StatusCode, details: str) -> None:
            raise grpc.aio.AbortError

    async def test(rig: Rig) -> None:
        rules: Any = SimpleNamespace(policy=SimpleNamespace(text=failing(error)))
        rpc = _Rpc(
            SimpleNamespace(rules=rules, ring=SimpleNamespace(following=None, named=None)), rig.service.contained
        )  # type: ignore[arg-type]
        with pytest.raises(grpc.aio.AbortError):
            await rpc.Describe(None, Context())
        assert rig.bugs == 1

    run(tmp_path, test)
