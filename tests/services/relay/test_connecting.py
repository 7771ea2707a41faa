"""Targets with several addresses: one that swallows packets hides no other; what this machine lacks is said as that."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from exit_rig import Rig, echo, rules
from exit_rig import run as run_exit
from phantomband.core.stream.messages import EndReason, target
from phantomband_relay.connecting import ATTEMPT_SECONDS, Route, in_order, race, reason_of, route_to
from virtual import run_virtual


class FakeSocket:
    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


Attempt = Callable[[], Awaitable[Any]]


def attempt(after: float, error: OSError | None = None, made: list[FakeSocket] | None = None) -> Attempt:
    async def work() -> FakeSocket:
        try:
            await asyncio.sleep(after)
        except asyncio.CancelledError:
            if made is None:
                raise
        if error is not None:
            raise error
        sock = FakeSocket()
        if made is not None:
            made.append(sock)
        return sock

    return work


def run(test: Coroutine[Any, Any, None]) -> None:
    run_virtual(test)


def test_a_dead_address_does_not_hide_one_that_works() -> None:
    async def main() -> None:
        begun = asyncio.get_running_loop().time()
        number, _ = await race([attempt(3600), attempt(0.02)])
        assert number == 1
        assert asyncio.get_running_loop().time() - begun == pytest.approx(ATTEMPT_SECONDS + 0.02)

    run(main())


def test_after_a_failure_the_next_is_tried_at_once() -> None:
    async def main() -> None:
        begun = asyncio.get_running_loop().time()
        number, _ = await race([attempt(0.01, ConnectionRefusedError()), attempt(0.01)])
        assert number == 1
        assert asyncio.get_running_loop().time() - begun == pytest.approx(0.02)

    run(main())


def test_the_first_keeps_its_chance_while_others_are_tried() -> None:
    async def main() -> None:
        number, _ = await race([attempt(0.4), attempt(3600), attempt(3600)])
        assert number == 0

    run(main())


def test_a_connection_that_comes_too_late_is_closed() -> None:
    async def main() -> None:
        made: list[FakeSocket] = []
        number, winner = await race([attempt(3600, None, made), attempt(0.01)])
        assert number == 1
        assert made[0].closed
        assert not winner.closed  # type: ignore[attr-defined]

    run(main())


def test_whoever_stops_waiting_leaves_no_attempt() -> None:
    async def main() -> None:
        made: list[FakeSocket] = []
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await race([attempt(3600, None, made), attempt(3600, None, made)])
        assert [s.closed for s in made] == [True, True]

    run(main())


@pytest.mark.parametrize(
    ("errors", "reason"),
    [
        ([ConnectionRefusedError(), OSError(errno.EMFILE, "")], EndReason.REFUSED),
        ([OSError(errno.EMFILE, ""), ConnectionRefusedError()], EndReason.REFUSED),
        ([OSError(errno.EMFILE, ""), OSError(errno.EMFILE, "")], EndReason.RESOURCE),
        ([OSError(errno.EHOSTUNREACH, ""), OSError(errno.EADDRNOTAVAIL, "")], EndReason.UNREACHABLE),
    ],
)
def test_when_all_fail_the_targets_own_answer_counts(errors: list[OSError], reason: EndReason) -> None:
    async def main() -> None:
        with pytest.raises(OSError) as caught:
            await race([attempt(0.01, e) for e in errors])
        assert reason_of(caught.value) is reason

    run(main())


def test_families_take_turns() -> None:
    assert in_order(["2001:db8::1", "2001:db8::2", "192.0.2.1"]) == ["2001:db8::1", "192.0.2.1", "2001:db8::2"]
    assert in_order(["192.0.2.1", "192.0.2.2"]) == ["192.0.2.1", "192.0.2.2"]


def test_an_own_address_is_known_by_its_route() -> None:
    assert route_to("127.0.0.1") is Route.OWN
    assert route_to("255.255.255.255") is Route.NONE


# ---- in the exit --------------------------------------------------------------------------------------------------


def routes(rig: Rig, known: dict[str, Route]) -> list[str]:
    """Replaces routing and connecting; gives what was tried."""
    tried: list[str] = []

    async def connect(address: str, port: int) -> socket.socket:
        tried.append(address)
        raise ConnectionRefusedError

    rig.exit._route = lambda address: known[address]  # type: ignore[method-assign]
    rig.exit._open = connect  # type: ignore[method-assign]
    return tried


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        ({"198.41.0.4": Route.OWN}, EndReason.POLICY),
        ({"198.41.0.4": Route.OUT}, EndReason.REFUSED),
        ({"2001:500::1": Route.NONE}, EndReason.RESOURCE),
        ({"2001:500::1": Route.NONE, "198.41.0.4": Route.OWN}, EndReason.RESOURCE),
        ({"2001:500::1": Route.NONE, "198.41.0.4": Route.OUT}, EndReason.REFUSED),
    ],
)
def test_an_exit_does_not_reach_itself_and_what_it_cannot_route_another_may(
    known: dict[str, Route], reason: EndReason
) -> None:
    async def test(rig: Rig) -> None:
        tried = routes(rig, known)
        rig.dns.known["name.test"] = list(known)
        assert (await rig.outcome(target("name.test", 80))).reason is reason
        assert tried == [a for a, r in known.items() if r is Route.OUT]

    run_exit(test, rules(private=False))


def test_an_exit_knows_its_own_interfaces_and_reaches_them_in_test_networks_only() -> None:
    async def test(rig: Rig) -> None:
        assert rig.exit._route("127.0.0.1") is Route.OUT

    async def elsewhere(rig: Rig) -> None:
        assert rig.exit._route("127.0.0.1") is Route.OWN

    run_exit(test, rules())
    run_exit(elsewhere, rules(private=False))


def test_an_exit_reaches_no_relays_link_port_and_no_address_that_is_advertised_for_it() -> None:
    async def test(rig: Rig) -> None:
        tried = routes(rig, {"198.41.0.4": Route.OUT})
        rig.links.add(("198.41.0.4", 9001))
        assert (await rig.outcome(target("198.41.0.4", 9001))).reason is EndReason.POLICY
        assert tried == []
        assert (await rig.outcome(target("198.41.0.4", 9002))).reason is EndReason.REFUSED
        assert (await rig.outcome(target("198.41.0.5", 9002))).reason is EndReason.POLICY

    run_exit(test, rules(private=False, own="198.41.0.5"))


@pytest.mark.parametrize("name", ["printer.local", "a.onion", "b.i2p", "db.internal", "x.alt"])
def test_names_of_special_use_reach_no_dns(name: str) -> None:
    async def test(rig: Rig) -> None:
        for resolve in (False, True):
            handler = await rig.outcome(target(name, 80), resolve=resolve)
            assert handler.reason is EndReason.RESOLVE_FAILED
        assert rig.dns.asked == []

    run_exit(test)


def test_localhost_is_this_machine_where_that_may_be_reached_and_no_dns_is_asked() -> None:
    async def test(rig: Rig) -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        handler = await rig.outcome(target("localhost", server.sockets[0].getsockname()[1]))
        assert handler.answers is not None
        assert handler.answers[0].value == "127.0.0.1"
        assert rig.dns.asked == []
        handler.stream.end(EndReason.DONE)  # type: ignore[union-attr]
        await rig.joined.until(lambda: rig.quiet)
        server.close()

    async def closed(rig: Rig) -> None:
        assert (await rig.outcome(target("localhost", 80))).reason is EndReason.POLICY
        assert rig.dns.asked == []

    run_exit(test)
    run_exit(closed, rules(private=False))
