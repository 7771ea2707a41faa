"""How an exit looks names up: what it answers, what it tries, and how many at once."""

from __future__ import annotations

import errno
import socket

import pytest
from exit_rig import Rig, rules, run
from phantomband.core.stream.messages import Answer, EndReason, Kind, Target, target
from phantomband_relay.connecting import MAX_ATTEMPTS, Route


def opens_nothing(rig: Rig) -> list[tuple[str, int]]:
    """Replaces the connecting; gives what was tried."""
    tried: list[tuple[str, int]] = []

    async def no_connection(address: str, port: int) -> socket.socket:
        tried.append((address, port))
        raise OSError(errno.EHOSTUNREACH, "unreachable")

    rig.exit._open = no_connection  # type: ignore[method-assign]
    rig.exit._route = lambda address: Route.OUT  # type: ignore[method-assign]
    return tried


def test_a_name_that_resolves_to_a_private_and_a_public_address_reaches_only_the_public_one() -> None:
    async def test(rig: Rig) -> None:
        rig.dns.known["mixed.test"] = ["127.0.0.1", "198.41.0.4"]
        tried = opens_nothing(rig)
        assert (await rig.outcome(target("mixed.test", 80))).reason is EndReason.UNREACHABLE
        assert tried == [("198.41.0.4", 80)]

    run(test, rules(private=False))


def test_a_name_that_does_not_resolve() -> None:
    async def test(rig: Rig) -> None:
        assert (await rig.outcome(target("nowhere.test", 80))).reason is EndReason.RESOLVE_FAILED
        assert rig.quiet

    run(test)


@pytest.mark.parametrize(
    "name", ["a..b", ".", "x" * 70 + ".test", "%", "a\\b", "-a.test", "::1", "fe80::1%lo", "0x7f.1.%"]
)
def test_a_name_that_is_none_does_not_resolve_and_breaks_nothing(name: str) -> None:
    async def test(rig: Rig) -> None:
        handler = await rig.outcome(Target(Kind.NAME, name, 80))
        assert handler.reason is EndReason.RESOLVE_FAILED

    run(test)


def test_a_names_addresses_are_tried_in_turn_up_to_four() -> None:
    async def test(rig: Rig) -> None:
        many = [f"198.41.0.{i}" for i in range(9)]
        rig.dns.known["many.test"] = [*many[:1], *many]
        tried = opens_nothing(rig)
        assert (await rig.outcome(target("many.test", 80))).reason is EndReason.UNREACHABLE
        assert tried == [(a, 80) for a in many[:MAX_ATTEMPTS]]

    run(test)


def test_resolve_answers_with_addresses_and_the_stream_is_over() -> None:
    async def test(rig: Rig) -> None:
        rig.dns.known["two.test"] = ["192.0.2.1", "2001:db8::1"]
        handler = await rig.outcome(target("two.test", 0), resolve=True)
        assert handler.answers == [Answer(Kind.IPV4, "192.0.2.1", 60), Answer(Kind.IPV6, "2001:db8::1", 60)]
        await rig.joined.until(lambda: rig.quiet)
        assert handler.reason is EndReason.DONE

    run(test)


def test_resolve_of_an_unknown_name() -> None:
    async def test(rig: Rig) -> None:
        assert (await rig.outcome(target("nowhere.test", 0), resolve=True)).reason is EndReason.RESOLVE_FAILED
        await rig.joined.until(lambda: rig.quiet)

    run(test)


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("host.test", True),
        ("x" * 254, False),
        ("a b", False),
        ("a\udcff", False),
        ("", False),
        ("ä.test", False),
    ],
)
def test_a_reverse_name_that_is_none_is_no_answer_and_breaks_nothing(name: str, valid: bool) -> None:
    """Whoever owns an address writes its name: it must kill neither this exit nor the client's circuit."""

    async def test(rig: Rig) -> None:
        rig.dns.reverse = [name]
        handler = await rig.outcome(target("192.0.2.1", 0), resolve=True)
        assert handler.answers == ([Answer(Kind.NAME, name, 60)] if valid else None)
        await rig.joined.until(lambda: rig.quiet)
        assert handler.reason is (EndReason.DONE if valid else EndReason.RESOLVE_FAILED)

    run(test)


def test_the_name_of_an_address_that_has_none() -> None:
    async def test(rig: Rig) -> None:
        assert (await rig.outcome(target("192.0.2.1", 0), resolve=True)).reason is EndReason.RESOLVE_FAILED

    run(test)
