"""Whatever happens in a link's callbacks, expected or not, ends that link and is counted; memory is given back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import FakeConnection, FakeOwner
from link_rig import CELL, LISTENER, NETWORK, NODE, End, pump, virtual
from phantomband.core.cell import CELL_BYTES, LINK_CIRCUIT, Command, encode
from phantomband.core.crypto.kem import encapsulate_untrusted
from phantomband.core.errors import Bug, Forged, Malformed, Refused, UserError
from phantomband.core.link import listen
from phantomband.runtime.contained import Contained
from phantomband.runtime.egress import UNCHARGED_BYTES
from phantomband.runtime.link_driver import KEEPALIVE_SECONDS, LINK_BYTES, LinkDriver
from phantomband.runtime.memory_budget import MemoryBudget
from phantomband.runtime.shared import SharedAttempts
from phantomband.transports.base import WRITE_HIGH_WATER
from virtual import run_virtual
from world import Seeded

ERRORS = (Malformed, Forged, Refused, UserError, Bug, KeyError, ValueError, OSError, RecursionError)
DECLARED = (Malformed, Forged)


class Counted(End):
    """The listener, with what counts its errors and bytes."""

    def __init__(self, limit: int = 1 << 30) -> None:
        self.contained = Contained()
        self.budget = MemoryBudget(limit)
        self.owner, self.connection = FakeOwner(), FakeConnection()
        machine = listen(NETWORK, NODE, LISTENER, Seeded(2), encapsulate_untrusted)
        self.driver = LinkDriver(
            machine, self.owner, Seeded(2), incoming=True, contained=self.contained, budget=self.budget, source="x"
        )
        self.driver.attach(self.connection)


def rig(limit: int = 1 << 30) -> tuple[End, Counted]:
    dialer, listener = End(incoming=False), Counted(limit)
    for _ in range(3):
        pump(dialer, listener)
    assert listener.driver.established
    return dialer, listener


def failing(error: type[Exception]) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> None:
        raise error("from a peer")

    return fail


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("what", ["link_cells", "link_directory", "machine", "egress", "owner's end", "released"])
def test_an_error_in_a_callback_never_leaves_the_driver(error: type[Exception], what: str) -> None:
    def test() -> None:
        dialer, listener = rig()
        driver: Any = listener.driver
        match what:
            case "link_cells":
                listener.owner.link_cells = failing(error)  # type: ignore[method-assign]
                dialer.driver.send(CELL)
            case "link_directory":
                listener.owner.link_directory = failing(error)  # type: ignore[method-assign]
                dialer.driver.send_directory(1, b"?", answer=False)
            case "machine":
                driver._machine.receive = failing(error)
                dialer.driver.send(CELL)
            case "egress":
                driver._egress = SimpleNamespace(drain=failing(error), stop=lambda: None)
                driver.writable()
            case "owner's end":
                listener.owner.link_closed = failing(error)  # type: ignore[method-assign]
                listener.owner.closed = 1
                driver.closed(None)
            case "released":
                listener.owner.link_released = failing(error)  # type: ignore[method-assign]
                driver.closed(None)
        driver.received(dialer.connection.take())
        received = what in ("link_cells", "link_directory", "machine")
        assert listener.contained.bugs == int(not received or error not in DECLARED)
        if received or what == "egress":
            assert listener.connection.ended == "abort" or error in DECLARED
        driver.abort()

    virtual(test)


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_in_a_timer_ends_the_link(error: type[Exception]) -> None:
    async def main() -> None:
        _, listener = rig()
        listener.driver.send = failing(error)  # type: ignore[method-assign]
        await asyncio.sleep(KEEPALIVE_SECONDS + 1)
        assert listener.connection.ended == "abort"
        assert listener.contained.bugs == 1

    run_virtual(main())


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_in_a_shared_attempt_reaches_its_callers_as_refused_and_its_task_as_it_is(
    error: type[Exception],
) -> None:
    async def main() -> None:
        contained = Contained()
        attempts: SharedAttempts[str, None] = SharedAttempts()

        async def attempt() -> None:
            raise error("from a peer")

        async with asyncio.TaskGroup() as tasks:
            contained.start(tasks)
            attempts.spawn = contained.spawn
            for _ in range(2):
                outcomes = await asyncio.gather(
                    *(attempts.get("key", attempt) for _ in range(3)), return_exceptions=True
                )
                declared = issubclass(error, Malformed | Refused | UserError | Bug)
                assert {type(o) for o in outcomes} == {error if declared else Refused}
        assert contained.bugs == (0 if declared else 2)

    run_virtual(main())


def test_what_a_link_holds_is_charged_and_given_back() -> None:
    def test() -> None:
        dialer, listener = rig()
        budget = listener.budget
        assert budget.used == LINK_BYTES
        listener.connection.congest()
        listener.driver.send(CELL * 100)
        below = listener.connection.buffered - UNCHARGED_BYTES
        assert below > 0, "what the connection has not sent counts, too"
        assert budget.used == LINK_BYTES + below + 100 * CELL_BYTES
        dialer.driver.send(encode(LINK_CIRCUIT, Command.DIRECTORY, b"\0\0\0\1\0" + (2036).to_bytes(2, "big")))
        listener.driver.received(dialer.connection.take())
        assert budget.used == LINK_BYTES + below + 100 * CELL_BYTES + 2036
        listener.connection.congest(False)
        listener.driver.writable()
        assert budget.used == LINK_BYTES + 2036
        listener.driver.closed(None)
        assert budget.used == 0
        dialer.driver.abort()

    virtual(test)


def test_over_the_budget_the_largest_circuit_is_given_up_and_then_the_link() -> None:
    async def main() -> None:
        below = WRITE_HIGH_WATER + 1 - UNCHARGED_BYTES
        _, listener = rig(LINK_BYTES + below + 100 * CELL_BYTES)
        listener.connection.congest()
        assert listener.connection.buffered == WRITE_HIGH_WATER + 1
        large, small = CELL, encode(b"\0\0\0\2", Command.RELAY)
        listener.driver.send(large * 70)
        listener.driver.send(small * 29)
        await asyncio.sleep(0)
        assert not listener.owner.overflows
        listener.driver.send(small * 2)
        await asyncio.sleep(0.01)
        assert listener.owner.overflows == [large[:4]]
        assert listener.connection.ended is None
        listener.driver.send_directory(1, bytes(200 * CELL_BYTES), answer=True)
        await asyncio.sleep(0.01)
        assert listener.connection.ended == "abort"
        assert listener.budget.used == 0

    run_virtual(main())


def test_a_link_that_failed_holds_no_queue_while_it_lingers() -> None:
    def test() -> None:
        _, listener = rig()
        listener.connection.congest()
        listener.driver.send(CELL * 100)
        listener.driver.fail()
        assert listener.budget.used == LINK_BYTES
        listener.driver.abort()

    virtual(test)
