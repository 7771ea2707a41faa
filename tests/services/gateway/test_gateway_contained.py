"""An error in any callback of the gateway, expected or not, ends one link or one request: lanes and others live on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc.aio
import pytest
from gateway_rig import Rig
from link_rig import CELL
from phantomband.core.circuit.batch import encode_run
from phantomband.core.dircall import DirectoryMessage
from phantomband.core.errors import Bug, Forged, Malformed, Refused, UserError
from phantomband.runtime.frames import Frame
from phantomband.runtime.lane.base import HIGH_WATER, LanePeer
from phantomband_gateway.rpc import GatewayRpc
from phantomband_gateway.service import PAUSE_ALL_BYTES
from virtual import run_virtual

ERRORS = (Malformed, Forged, Refused, UserError, Bug, KeyError, ValueError, OSError, RecursionError)


def failing(error: type[Exception]) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> None:
        raise error("from a peer")

    return fail


def cells(rig: Rig) -> memoryview:
    return memoryview(b"".join(map(bytes, encode_run(rig.link, CELL))))


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("what", ["send", "frame", "overflow", "down", "writable", "lane", "junk"])
def test_errors_in_callbacks_of_the_lanes(tmp_path: Path, error: type[Exception], what: str) -> None:
    async def main() -> None:
        rig = Rig(tmp_path)
        service: Any = rig.service
        ends = what in ("send", "writable", "lane")
        match what:
            case "send":
                rig.driver.send = failing(error)  # type: ignore[method-assign]
                rig.mixer.frame(Frame.CELLS, cells(rig))
            case "frame":
                service.outgoing = failing(error)
                rig.mixer.frame(Frame.CELLS, cells(rig))
            case "overflow":
                service.link_overflow = failing(error)
                rig.mixer.frame(Frame.OVERFLOW, memoryview(rig.link.to_bytes(4, "big") + b"\0\0\0\1"))
            case "down":
                service.mixer_down = failing(error)
                rig.mixer.down()
            case "writable":
                service._paused.add(rig.driver)
                rig.driver.resume_reading = failing(error)  # type: ignore[method-assign]
                service._relay_writable()
            case "lane":
                rig.driver.destroy_all = failing(error)  # type: ignore[method-assign]
                service._lane_down()
            case "junk":
                rig.mixer.frame(Frame.CELLS, memoryview(b"\0\7"))
        assert service.status()["bugs"] == 1
        assert (rig.connection.ended == "abort") == ends
        rig.driver.abort()

    run_virtual(main())


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_while_a_directory_request_is_served_is_answered_with_nothing(
    tmp_path: Path, error: type[Exception]
) -> None:
    async def main() -> None:
        rig = Rig(tmp_path)
        answers: list[bytes] = []
        rig.driver.send_directory = lambda request, data, *, answer: answers.append(data)  # type: ignore[method-assign]
        calls: Any = rig.service.calls

        async def serve(driver: Any, message: Any) -> None:
            raise error("from a peer")

        calls._serve, calls._channel = serve, object()
        async with asyncio.TaskGroup() as tasks:
            rig.service.contained.start(tasks)
            rig.service.link_directory(rig.driver, DirectoryMessage(1, False, b"?"))
        assert answers == [b""]
        assert rig.service.status()["bugs"] == 1
        assert rig.connection.ended is None
        rig.driver.abort()

    run_virtual(main())


class Context:
    """A gRPC call."""

    aborted: grpc.StatusCode | None = None

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        self.aborted = code
        raise grpc.aio.AbortError


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("name", ["Describe", "OpenLink", "CloseLink", "PeerCall", "Reach"])
def test_an_error_in_a_call_ends_that_call(tmp_path: Path, error: type[Exception], name: str) -> None:
    async def main() -> None:
        rig = Rig(tmp_path)
        service: Any = rig.service
        rpc, context = GatewayRpc(service, b"k" * 32), Context()
        service.addresses = Iterator(error)
        service.link_to_close = failing(error)
        service.links = SimpleNamespace(to=failing(error), reach=failing(error))
        service.calls.call = failing(error)
        request = Request()
        with pytest.raises(grpc.aio.AbortError):
            await getattr(rpc, name)(request, context)
        expected = {"OpenLink": (Refused, Malformed, KeyError), "PeerCall": (Refused, Malformed)}
        expected["Reach"] = expected["PeerCall"]
        known = issubclass(error, expected.get(name, ()))
        assert context.aborted is (grpc.StatusCode.UNAVAILABLE if known else grpc.StatusCode.INTERNAL)
        assert service.contained.bugs == int(not known)
        rig.driver.abort()

    run_virtual(main())


class Iterator:
    """Addresses that cannot be read."""

    def __init__(self, error: type[Exception]) -> None:
        self._error = error

    def __iter__(self) -> Any:
        raise self._error("from a peer")


class Request:
    """Any of the gateway's requests."""

    link = 1
    request = b"?"

    peer = SimpleNamespace(node_id=b"n" * 32, link_key=b"k" * 32, addresses=())


def test_many_links_together_never_break_the_lane_off(tmp_path: Path) -> None:
    async def main() -> None:
        rig = Rig(tmp_path)
        idle = rig.driver
        rig.lane.buffered = HIGH_WATER + 1
        rig.service.link_cells(rig.driver, CELL)
        assert rig.service._paused == {idle}
        rig.service._relay_writable()
        paused: list[str] = []
        other: Any = type("Other", (), {"pause_reading": lambda self: paused.append("other")})()
        rig.service.links.by_id[rig.link + 1] = other  # type: ignore[index]
        rig.lane.buffered = PAUSE_ALL_BYTES + 1
        rig.service.link_cells(rig.driver, CELL)
        assert paused == ["other"], "before it brings anything"
        assert not rig.connection.reading
        del rig.service.links.by_id[rig.link + 1]  # type: ignore[arg-type]
        rig.driver.abort()

    run_virtual(main())


def test_the_relay_is_told_which_links_share_a_source_and_no_address(tmp_path: Path) -> None:
    async def main() -> None:
        rig = Rig(tmp_path)
        rig.lane.sent.clear()
        rig.driver.ip = bytes((192, 0, 2, 66))  # type: ignore[attr-defined]
        rig.service._relay_up(LanePeer("relay", 1))
        ((kind, told),) = rig.lane.sent
        assert kind == Frame.LINK_UP
        assert told[5:9] != bytes(4)
        assert bytes((192, 0, 2)) not in told
        rig.driver.abort()

    run_virtual(main())
