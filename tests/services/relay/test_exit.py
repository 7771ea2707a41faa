"""Who an exit connects to, how it resolves names, what it answers to each failure, and its limits."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

import pytest
from exit_rig import Rig, echo, hold, rules, run, through
from phantomband.core.netdir.exit_policy import ExitPolicy
from phantomband.core.stream.messages import EndReason, target
from phantomband_relay.exit import BEGINS_BURST

# ---- who may be reached ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "192.168.0.1",
        "172.16.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fc00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
    ],
)
def test_private_addresses_are_refused_whatever_the_policy_says(address: str) -> None:
    assert not rules(private=False).allows(address, 80)
    assert rules(ExitPolicy.parse(["accept *:*"]), private=False).allows("198.41.0.4", 80)


def test_the_policy_decides_about_the_rest() -> None:
    some = rules(ExitPolicy.parse(["reject 198.41.0.4:*", "accept *:443"]))
    assert some.allows("198.41.0.5", 443)
    assert not some.allows("198.41.0.5", 80)
    assert not some.allows("198.41.0.4", 443)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "10.0.0.1", "localhost"])
def test_a_private_target_ends_with_policy_even_by_name(host: str) -> None:
    async def test(rig: Rig) -> None:
        assert (await rig.outcome(target(host, 9))).reason is EndReason.POLICY
        assert rig.quiet
        assert rig.exit.counters.failed == 1

    run(test, rules(private=False))


def test_a_relay_without_a_policy_refuses_all() -> None:
    async def test(rig: Rig) -> None:
        assert (await rig.outcome(target("127.0.0.1", 9))).reason is EndReason.POLICY

    run(test, rules(ExitPolicy.parse([])))


# ---- failing and limits ------------------------------------------------------------------------------------


def test_a_closed_port_is_refused() -> None:
    async def test(rig: Rig) -> None:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            handler = await rig.outcome(target("127.0.0.1", sock.getsockname()[1]))
        assert handler.reason is EndReason.REFUSED
        assert rig.quiet

    run(test)


@pytest.mark.parametrize("stage", ["resolve", "connect"])
def test_what_hangs_ends_with_timeout(stage: str) -> None:
    async def test(rig: Rig) -> None:
        async def hang(*_: object, **__: object) -> Any:
            await asyncio.Event().wait()

        if stage == "resolve":
            rig.exit.names.addresses = hang  # type: ignore[method-assign]
        else:
            rig.exit._open = hang  # type: ignore[method-assign]
        start = asyncio.get_running_loop().time()
        handler = rig.open(target("slow.test" if stage == "resolve" else "127.0.0.1", 80))
        await asyncio.sleep(14.9)
        assert handler.reason is None
        await asyncio.sleep(0.2)
        await rig.joined.until(lambda: handler.reason is not None)
        assert asyncio.get_running_loop().time() - start < 15.2
        assert handler.reason is EndReason.TIMEOUT
        assert rig.quiet

    run(test, rules(timeout=15.0), virtual=True)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionRefusedError(), EndReason.REFUSED),
        (TimeoutError(), EndReason.TIMEOUT),
        (OSError(errno.ETIMEDOUT, ""), EndReason.TIMEOUT),
        (OSError(errno.ENETUNREACH, ""), EndReason.UNREACHABLE),
        (OSError(errno.EHOSTUNREACH, ""), EndReason.UNREACHABLE),
        (PermissionError(errno.EACCES, ""), EndReason.UNREACHABLE),
        (OSError(errno.EMFILE, ""), EndReason.RESOURCE),
        (OSError(errno.ENFILE, ""), EndReason.RESOURCE),
        (OSError(errno.ENOBUFS, ""), EndReason.RESOURCE),
        (OSError(errno.EADDRNOTAVAIL, ""), EndReason.RESOURCE),
    ],
)
def test_each_failure_has_its_reason(error: OSError, reason: EndReason) -> None:
    async def test(rig: Rig) -> None:
        async def fail(*_: object) -> socket.socket:
            raise error

        rig.exit._open = fail  # type: ignore[method-assign]
        assert (await rig.outcome(target("127.0.0.1", 80))).reason is reason

    run(test)


def test_connections_are_bounded() -> None:
    async def test(rig: Rig) -> None:
        async with through(rig, echo):
            await rig.joined.until(lambda: rig.exit.counters.opened == 1)
            handler = await rig.outcome(target("127.0.0.1", 9))
            assert handler.reason is EndReason.RESOURCE
            assert rig.exit.counters.refused == 1
        await rig.joined.until(lambda: rig.quiet)

    run(test, rules(most=1))


def test_a_circuit_opens_only_so_many_streams_a_second() -> None:
    async def test(rig: Rig) -> None:
        circuit = rig.exit.circuit()
        ends: list[EndReason] = []

        class Opened:
            open = True
            outbox_bytes = 0

            def end(self, reason: EndReason) -> None:
                ends.append(reason)

        for _ in range(int(BEGINS_BURST) + 50):
            circuit.begin(Opened(), target("nowhere.test", 80))  # type: ignore[arg-type]
        assert ends.count(EndReason.RESOURCE) == 50
        await asyncio.sleep(1.0)
        ends.clear()
        for _ in range(300):
            circuit.begin(Opened(), target("nowhere.test", 80))  # type: ignore[arg-type]
        await asyncio.sleep(0.1)
        assert ends.count(EndReason.RESOURCE) in (99, 100, 101)
        assert ends.count(EndReason.RESOLVE_FAILED) == 300 - ends.count(EndReason.RESOURCE)

    run(test, rules(most=100_000), virtual=True)


def test_a_client_that_ends_while_we_connect_leaves_nothing() -> None:
    async def test(rig: Rig) -> None:
        reached, go = hold(rig)
        closed = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await reader.read()
            except ConnectionError:
                pass
            writer.close()
            closed.set()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        handler = rig.open(target("127.0.0.1", server.sockets[0].getsockname()[1]))
        await reached.wait()
        assert handler.stream is not None
        handler.stream.end(EndReason.DONE)
        await rig.joined.until(lambda: not rig.joined.exit.streams)
        go.set()
        await closed.wait()
        await rig.joined.until(lambda: rig.quiet)
        server.close()

    run(test)


@pytest.mark.parametrize("stage", ["resolve", "connect"])
def test_a_connection_that_is_being_made_counts_even_if_its_stream_ended(stage: str) -> None:
    """Else streams that are opened and ended at once would set off any number of them."""

    async def test(rig: Rig) -> None:
        reached, go = asyncio.Event(), asyncio.Event()

        async def hang(*_: object) -> list[str]:
            reached.set()
            await go.wait()
            if stage == "connect":
                raise OSError(errno.EHOSTUNREACH, "unreachable")
            return []

        setattr(rig.exit, "_addresses" if stage == "resolve" else "_open", hang)
        handler = rig.open(target("127.0.0.1", 9))
        await reached.wait()
        assert handler.stream is not None
        handler.stream.end(EndReason.DONE)
        await rig.joined.until(lambda: not rig.joined.exit.streams)
        assert len(rig.exit.open) == 1
        assert (await rig.outcome(target("127.0.0.1", 9))).reason is EndReason.RESOURCE
        go.set()
        await rig.joined.until(lambda: rig.quiet)
        outcome = await rig.outcome(target("127.0.0.1", 9))
        assert outcome.reason is (EndReason.RESOLVE_FAILED if stage == "resolve" else EndReason.UNREACHABLE)

    run(test, rules(most=1))
