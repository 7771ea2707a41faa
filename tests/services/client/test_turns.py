"""What users do does not show as circuits that come and go, where the profile paces its circuits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace

import pytest
from phantomband.core.cell import Command
from phantomband.core.errors import Refused
from phantomband.core.profiles import FAST, STRONG
from phantomband.core.stream.messages import EndReason
from phantomband_client.circuits import SWEEP_SECONDS
from phantomband_client.managed import Managed
from phantomband_client.turns import AHEAD_SECONDS, HANDOVER_SECONDS, LINGER_SECONDS
from pool_rig import WEB, Rig, isolation, run
from world import CLIENT, Recorder

Events = list[tuple[float, int, int]]
Script = Callable[[Rig], Coroutine[None, None, None]]

LIFETIME = 600.0


async def nothing(rig: Rig) -> None:
    """Nobody is there."""


async def page(rig: Rig, user: bytes, seconds: float = 0.1) -> Managed:
    """Opens a stream, and closes it a little later."""
    managed = await rig.pool.get(isolation(user), WEB)
    assert managed.circuit is not None
    streams = managed.circuit.endpoint.streams
    stream = managed.circuit.endpoint.open(WEB, Recorder())
    await asyncio.sleep(seconds)
    streams.pop(stream.id, None)
    return managed


def events(script: Script, seconds: float, ready: int = 2) -> Events:
    """(seconds, circuit, command) of every CREATE and DESTROY that a guard sees while `script` runs."""
    seen: Events = []

    async def test(rig: Rig) -> None:
        loop = asyncio.get_running_loop()

        def note(cell: bytes) -> bytes:
            if cell[4] in (Command.CREATE, Command.DESTROY):
                seen.append((round(loop.time(), 3), cell[3], cell[4]))
            return cell

        rig.world.tamper[CLIENT, "r1"] = note
        keeping = asyncio.ensure_future(rig.pool.keep_ready())
        acting = asyncio.ensure_future(script(rig))
        await asyncio.sleep(seconds)
        keeping.cancel()
        acting.cancel()
        await asyncio.gather(keeping, acting, return_exceptions=True)
        assert not acting.done() or acting.cancelled() or acting.exception() is None
        rig.guard_link.touch(None)
        await asyncio.sleep(0)

    run(test, ready=ready, profile=STRONG, lifetime=LIFETIME)
    return seen


def test_two_users_that_close_connections_between_pages_make_no_event() -> None:
    async def browse(rig: Rig) -> None:
        await asyncio.sleep(10.3)
        while True:
            await page(rig, b"alice")
            await asyncio.sleep(2.2)
            await page(rig, b"bob")
            await asyncio.sleep(4.4)  # so that no page is open at a whole second: circuits are looked at then

    alone = events(nothing, 1800)
    assert events(browse, 1800) == alone
    assert len([command for *_, command in alone if command == Command.CREATE]) >= 2 * 1800 / LIFETIME


def test_the_spare_circuit_is_built_after_a_random_time() -> None:
    waits = []
    for turn in range(8):

        async def test(rig: Rig, turn: int = turn) -> None:
            for _ in range(turn):
                rig.world.random(4)
            keeping = asyncio.ensure_future(rig.pool.keep_ready())
            await asyncio.sleep(AHEAD_SECONDS + turn)
            await rig.pool.get(isolation(b"alice"), WEB)
            taken = asyncio.get_running_loop().time()
            while len(rig.pool.circuits) < 2:  # noqa: ASYNC110 - turns of the loop
                await asyncio.sleep(0.01)
            waits.append(asyncio.get_running_loop().time() - taken)
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

        run(test, ready=1, profile=replace(FAST, max_circuits=2))
    assert max(waits) > 0.5 * AHEAD_SECONDS
    assert max(waits) <= AHEAD_SECONDS + 0.1
    assert len(set(waits)) > 4


def test_a_name_that_does_not_resolve_makes_no_event() -> None:
    async def mistype(rig: Rig) -> None:
        await asyncio.sleep(10.3)
        for _ in range(20):
            managed = await page(rig, b"alice")
            rig.pool.exit_failed(managed, EndReason.RESOLVE_FAILED)
            await asyncio.sleep(5)

    assert events(mistype, 120) == events(nothing, 120)


def test_a_stream_waits_for_the_circuit_that_is_built_anyway() -> None:
    async def hurry(rig: Rig) -> None:
        await asyncio.gather(page(rig, b"alice"), page(rig, b"bob"))

    assert events(hurry, 60) == events(nothing, 60)


def test_a_stream_that_waits_hears_when_nothing_can_be_built() -> None:
    async def test(rig: Rig) -> None:
        rig.refuse = True
        keeping = asyncio.ensure_future(rig.pool.keep_ready())
        with pytest.raises(Refused, match="no guard"):
            await rig.pool.get(isolation(), WEB)
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)

    run(test, ready=1, profile=STRONG)


def test_a_third_user_takes_only_what_was_idle_for_long() -> None:
    async def test(rig: Rig) -> None:
        keeping = asyncio.ensure_future(rig.pool.keep_ready())
        await asyncio.sleep(2 * AHEAD_SECONDS)
        first = await page(rig, b"alice")
        await page(rig, b"bob")
        with pytest.raises(Refused, match="in use"):
            await rig.pool.get(isolation(b"carol"), WEB)
        await asyncio.sleep(HANDOVER_SECONDS)
        assert (await page(rig, b"carol")).open
        assert not first.open
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)

    run(test, ready=1, profile=STRONG)


def test_a_circuit_with_a_stream_goes_on_and_ends_at_a_later_look() -> None:
    async def test(rig: Rig) -> None:
        keeping = asyncio.ensure_future(rig.pool.keep_ready())
        await asyncio.sleep(2 * AHEAD_SECONDS)
        managed = await rig.pool.get(isolation(b"alice"), WEB)
        assert managed.circuit is not None
        stream = managed.circuit.endpoint.open(WEB, Recorder())
        await asyncio.sleep(1.5 * LIFETIME)
        assert managed.open
        assert await rig.pool.get(isolation(b"alice"), WEB) is managed
        managed.circuit.endpoint.streams.pop(stream.id)
        await asyncio.sleep(LINGER_SECONDS + SWEEP_SECONDS)
        assert not managed.open
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)

    run(test, ready=1, profile=STRONG, lifetime=LIFETIME)


def test_after_a_change_of_the_link_circuits_are_built_anew_without_a_stream_that_asks() -> None:
    async def test(rig: Rig) -> None:
        keeping = asyncio.ensure_future(rig.pool.keep_ready())
        await asyncio.sleep(2 * AHEAD_SECONDS)
        before = set(rig.pool.circuits.values())
        assert len(before) == 2
        rig.pool.leave(rig.guard_link)  # type: ignore[arg-type]
        await asyncio.sleep(2 * AHEAD_SECONDS + 2 * SWEEP_SECONDS)
        assert not any(managed.open for managed in before)
        assert sum(managed.open for managed in rig.pool.circuits.values()) == 2
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)

    run(test, ready=1, profile=STRONG)
