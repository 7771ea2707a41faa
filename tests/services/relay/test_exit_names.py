"""How an exit looks names up: what it answers, what it tries, and how many at once."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Iterator

import pytest
from exit_rig import Rig, rules, run
from fake_names import Names
from phantomband.core.stream.messages import Answer, EndReason, Kind, Target, target
from phantomband.runtime.splice import SocketStream
from phantomband_relay import exit as module
from phantomband_relay.exit import MAX_ATTEMPTS, MAX_LOOKUPS


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    names = Names()
    monkeypatch.setattr(module, "socket", names)
    return names


def opens_nothing(rig: Rig) -> list[tuple[str, int]]:
    """Replaces the connecting; gives what was tried."""
    tried: list[tuple[str, int]] = []

    async def no_connection(handler: SocketStream, address: str, port: int) -> None:
        tried.append((address, port))
        raise OSError(errno.EHOSTUNREACH, "unreachable")

    rig.exit._open = no_connection  # type: ignore[method-assign]
    return tried


def test_a_name_that_resolves_to_a_private_and_a_public_address_reaches_only_the_public_one(
    names: Names,
) -> None:
    async def test(rig: Rig) -> None:
        names.known["mixed.test"] = ["127.0.0.1", "198.41.0.4"]
        tried = opens_nothing(rig)
        assert (await rig.outcome(target("mixed.test", 80))).reason is EndReason.UNREACHABLE
        assert tried == [("198.41.0.4", 80)]

    run(test, rules(private=False))


def test_a_name_that_does_not_resolve() -> None:
    async def test(rig: Rig) -> None:
        assert (await rig.outcome(target("nowhere.test", 80))).reason is EndReason.RESOLVE_FAILED
        assert rig.quiet

    run(test)


@pytest.mark.parametrize("name", ["a..b", ".", "x" * 70 + ".test", "%", "a\\b"])
def test_a_name_that_is_none_does_not_resolve_and_breaks_nothing(name: str) -> None:
    async def test(rig: Rig) -> None:
        handler = await rig.outcome(Target(Kind.NAME, name, 80))
        assert handler.reason is EndReason.RESOLVE_FAILED

    run(test)


def test_a_names_addresses_are_tried_in_turn_up_to_four(names: Names) -> None:
    async def test(rig: Rig) -> None:
        many = [f"198.41.0.{i}" for i in range(9)]
        names.known["many.test"] = [*many[:1], *many]
        tried = opens_nothing(rig)
        assert (await rig.outcome(target("many.test", 80))).reason is EndReason.UNREACHABLE
        assert tried == [(a, 80) for a in many[:MAX_ATTEMPTS]]

    run(test)


def test_resolve_answers_with_addresses_and_the_stream_is_over(names: Names) -> None:
    async def test(rig: Rig) -> None:
        names.known["two.test"] = ["192.0.2.1", "2001:db8::1"]
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
def test_a_reverse_name_that_is_none_is_no_answer_and_breaks_nothing(names: Names, name: str, valid: bool) -> None:
    """Whoever owns an address writes its name: it must kill neither this exit nor the client's circuit."""

    async def test(rig: Rig) -> None:
        names.reverse = name
        handler = await rig.outcome(target("192.0.2.1", 0), resolve=True)
        assert handler.answers == ([Answer(Kind.NAME, name, 60)] if valid else None)
        await rig.joined.until(lambda: rig.quiet)
        assert handler.reason is (EndReason.DONE if valid else EndReason.RESOLVE_FAILED)

    run(test)


def test_the_name_of_an_address_that_has_none() -> None:
    async def test(rig: Rig) -> None:
        assert (await rig.outcome(target("192.0.2.1", 0), resolve=True)).reason is EndReason.RESOLVE_FAILED

    run(test)


@pytest.fixture
def slow(names: Names) -> Iterator[threading.Event]:
    """Look-ups hang until this is set."""
    go = threading.Event()
    names.before = lambda: go.wait(20)
    yield go
    go.set()


def test_names_are_looked_up_by_threads_of_their_own_and_only_so_many(names: Names, slow: threading.Event) -> None:
    """A resolver that hangs must not hold up what else the process does in threads."""

    async def test(rig: Rig) -> None:
        handlers = [rig.open(target(f"n{i}.test", 80)) for i in range(MAX_LOOKUPS + 9)]
        await rig.joined.until(lambda: len(names.asked) == MAX_LOOKUPS)
        for _ in range(50):
            assert await asyncio.to_thread(len, names.asked) == MAX_LOOKUPS
        slow.set()
        await rig.joined.until(lambda: all(h.reason is EndReason.RESOLVE_FAILED for h in handlers))
        assert sorted(names.asked) == sorted(f"n{i}.test" for i in range(MAX_LOOKUPS + 9))
        assert rig.quiet

    run(test)


def test_a_look_up_that_was_given_up_before_its_turn_is_never_made(names: Names, slow: threading.Event) -> None:
    async def test(rig: Rig) -> None:
        first = [rig.open(target(f"n{i}.test", 80)) for i in range(MAX_LOOKUPS)]
        await rig.joined.until(lambda: len(names.asked) == MAX_LOOKUPS)
        late = [rig.open(target("late.test", 80)) for _ in range(3)]
        await rig.joined.until(lambda: all(h.reason is EndReason.TIMEOUT for h in [*first, *late]))
        slow.set()
        del names.known["localhost"]
        await rig.outcome(target("localhost", 80))
        assert "late.test" not in names.asked
        assert rig.quiet

    run(test, rules(timeout=0.2))
