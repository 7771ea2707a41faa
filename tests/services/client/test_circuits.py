"""The client's circuits: built ahead, isolated, shared attempts, replaced, retired, bounded."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from phantomband.core.circuit.client import CircuitState
from phantomband.core.circuit.relay import RelayMachine
from phantomband.core.circuit.relay_types import RelayLimits
from phantomband.core.errors import Refused
from phantomband.core.profiles import FAST, STRONG
from phantomband.core.stream.messages import EndReason, target
from phantomband_client.circuits import BUILD_SECONDS, ExitsBusy
from phantomband_client.exits import BUSY_SECONDS
from phantomband_client.managed import STREAMS_PER_CIRCUIT, Isolation
from phantomband_client.turns import AHEAD_SECONDS, IDLE_SECONDS
from pool_rig import WEB, Rig, idle, isolation, run
from world import Recorder


def test_a_stream_gets_a_circuit_and_the_next_of_its_kind_the_same() -> None:
    async def test(rig: Rig) -> None:
        first = await rig.pool.get(isolation(), WEB)
        assert first.open
        assert await rig.pool.get(isolation(), WEB) is first
        assert (rig.pool.made, rig.changes) == (1, 1)
        assert rig.asked == [(443, None)]

    run(test)


@pytest.mark.parametrize(
    "other",
    [
        ("socks", b"bob", b"", "example.net", 443),
        ("socks", b"", b"pw", "example.net", 443),
        ("socks", b"", b"", "example.org", 443),
        ("socks", b"", b"", "example.net", 80),
        ("http", b"", b"", "example.net", 443),
    ],
)
def test_streams_of_different_credentials_targets_or_listeners_never_share(other: Isolation) -> None:
    async def test(rig: Rig) -> None:
        first = await rig.pool.get(isolation(), WEB)
        assert await rig.pool.get(other, target(other[3], other[4])) is not first

    run(test, ready=0)


def test_a_circuit_built_ahead_is_given_once_only() -> None:
    async def test(rig: Rig) -> None:
        await idle(rig, 5.0)
        assert len(rig.pool.circuits) == 2
        first = await rig.pool.get(isolation(b"a"), WEB)
        second = await rig.pool.get(isolation(b"b"), WEB)
        assert first is not second
        assert rig.pool.made == 2
        await idle(rig, 2 * AHEAD_SECONDS + 1)
        assert rig.pool.made == 4

    run(test, ready=2)


def test_many_streams_of_one_kind_share_one_attempt() -> None:
    async def test(rig: Rig) -> None:
        got = await asyncio.gather(*(rig.pool.get(isolation(), WEB) for _ in range(20)))
        assert len({id(m) for m in got}) == 1
        assert rig.pool.made == 1

    run(test)


def test_one_that_stops_waiting_does_not_take_the_attempt_from_the_others() -> None:
    async def test(rig: Rig) -> None:
        one = asyncio.ensure_future(rig.pool.get(isolation(), WEB))
        two = asyncio.ensure_future(rig.pool.get(isolation(), WEB))
        await asyncio.sleep(0)
        one.cancel()
        assert (await two).open

    run(test)


def test_a_circuit_whose_exit_refuses_the_target_is_not_used() -> None:
    async def test(rig: Rig) -> None:
        await idle(rig, 5.0)
        await rig.pool.get(isolation(port=22), target("example.net", 22))
        assert rig.asked == [(443, None), (22, None)]
        await rig.pool.get(isolation(host="192.0.2.1"), target("192.0.2.1", 443))
        assert rig.asked[2:] == []

    run(test, ready=1, policy=("accept *:443",))


def test_an_address_is_told_to_who_picks_the_path_a_name_is_not() -> None:
    async def test(rig: Rig) -> None:
        await rig.pool.get(isolation(host="198.41.0.4"), target("198.41.0.4", 443))
        await rig.pool.get(isolation(), WEB)
        assert rig.asked == [(443, "198.41.0.4"), (443, None)]

    run(test)


def test_a_broken_circuit_is_replaced() -> None:
    async def test(rig: Rig) -> None:
        first = await rig.pool.get(isolation(), WEB)
        assert first.circuit is not None
        first.circuit.destroy()
        assert not rig.pool.circuits
        second = await rig.pool.get(isolation(), WEB)
        assert second is not first
        assert second.open

    run(test)


def test_a_circuit_that_is_not_answered_is_given_up_in_time_and_destroyed() -> None:
    async def test(rig: Rig) -> None:
        rig.guard_link.held = True
        start = asyncio.get_running_loop().time()
        with pytest.raises(Refused, match="in time"):
            await rig.pool.get(isolation(), WEB)
        assert asyncio.get_running_loop().time() - start == pytest.approx(BUILD_SECONDS)
        assert not rig.pool.circuits
        assert not rig.guard_link.circuits
        assert rig.pool.failed == 1

    run(test)


def test_a_circuit_that_a_relay_destroys_fails_at_once() -> None:
    async def test(rig: Rig) -> None:
        relay = rig.world.relays["r2"]
        relay.machine = RelayMachine(relay, lambda link: relay.exit, RelayLimits(circuits=0))
        start = asyncio.get_running_loop().time()
        with pytest.raises(Refused, match="could not be built"):
            await rig.pool.get(isolation(), WEB)
        assert asyncio.get_running_loop().time() - start < 1

    run(test)


def test_without_a_guard_the_stream_is_refused_and_building_ahead_goes_on_trying() -> None:
    async def test(rig: Rig) -> None:
        rig.refuse = True
        with pytest.raises(Refused, match="no guard"):
            await rig.pool.get(isolation(), WEB)
        task = asyncio.ensure_future(rig.pool.keep_ready())
        await asyncio.sleep(60)
        assert not rig.pool.circuits
        rig.refuse = False
        await asyncio.sleep(6)
        assert len(rig.pool.circuits) == 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(test, ready=1)


def test_a_new_identity_takes_circuits_from_new_streams_and_leaves_those_in_use() -> None:
    async def test(rig: Rig) -> None:
        used = await rig.pool.get(isolation(b"a"), WEB)
        unused = await rig.pool.get(isolation(b"b"), WEB)
        assert used.circuit is not None
        assert unused.circuit is not None
        used.circuit.endpoint.open(WEB, Recorder())
        assert rig.pool.new_identity() == 2
        assert unused.circuit.state is CircuitState.GONE
        assert used.circuit.state is CircuitState.OPEN
        assert await rig.pool.get(isolation(b"a"), WEB) is not used
        assert rig.pool.new_identity() == 1

    run(test)


def test_who_waits_for_a_circuit_does_not_wait_for_a_link_that_was_left() -> None:
    async def test(rig: Rig) -> None:
        rig.guard_link.held = True
        waits = asyncio.ensure_future(rig.pool.get(isolation(), WEB))
        await asyncio.sleep(0.5)
        (building,) = rig.pool.circuits.values()
        rig.pool.leave(building.guard)
        with pytest.raises(Refused):
            await asyncio.wait_for(waits, 0.5)
        assert not rig.pool.circuits

    run(test)


def test_an_old_circuit_takes_no_new_streams_and_ends_with_its_last() -> None:
    async def test(rig: Rig) -> None:
        first = await rig.pool.get(isolation(), WEB)
        assert first.circuit is not None
        stream = first.circuit.endpoint.open(WEB, Recorder())
        await asyncio.sleep(601)
        assert await rig.pool.get(isolation(), WEB) is not first
        await idle(rig, 3.0)
        assert first.open
        first.circuit.endpoint.streams.pop(stream.id)
        await idle(rig, 3.0)
        assert not first.open

    run(test)


def test_a_used_circuit_that_is_long_idle_is_closed_an_unused_one_is_kept() -> None:
    async def test(rig: Rig) -> None:
        await idle(rig, 2.0)
        used = await rig.pool.get(isolation(), WEB)
        await idle(rig, IDLE_SECONDS - 5)
        assert used.open
        await idle(rig, 10)
        assert not used.open
        assert [m.isolation for m in rig.pool.circuits.values()] == [None]

    run(test, ready=1)


def test_circuits_are_bounded() -> None:
    async def test(rig: Rig) -> None:
        kept = [await rig.pool.get(isolation(bytes((i,))), WEB) for i in range(3)]
        await asyncio.sleep(1)
        fourth = await rig.pool.get(isolation(b"x"), WEB)
        assert [m.open for m in kept] == [False, True, True]
        for managed in (*kept[1:], fourth):
            assert managed.circuit is not None
            managed.circuit.endpoint.open(WEB, Recorder())
        with pytest.raises(Refused, match="in use"):
            await rig.pool.get(isolation(b"y"), WEB)
        assert len(rig.pool.circuits) == 3

    run(test, profile=replace(FAST, max_circuits=3))


def test_a_strong_circuit_is_used_once_its_exit_keeps_the_pace() -> None:
    async def test(rig: Rig) -> None:
        managed = await rig.pool.get(isolation(), WEB)
        assert managed.circuit is not None
        assert managed.circuit.pace == STRONG.pace
        assert rig.guard_link.paced == [STRONG.pace]
        assert rig.world.relays["r3"].slots_due is not None

    run(test, profile=STRONG)


def test_a_strong_circuit_whose_exit_has_no_room_for_its_pace_is_refused() -> None:
    async def test(rig: Rig) -> None:
        with pytest.raises(Refused):
            await rig.pool.get(isolation(), WEB)
        assert not rig.pool.circuits
        assert rig.guard_link.paced == []

    run(test, profile=STRONG, limits=RelayLimits(paced_cells=STRONG.pace - 1))


def test_strong_keeps_one_circuit_for_all_destinations_of_a_user_and_another_for_the_next_user() -> None:
    async def test(rig: Rig) -> None:
        first = await rig.pool.get(isolation(), WEB)
        assert await rig.pool.get(isolation(host="example.org", port=22), target("example.org", 22)) is first
        assert await rig.pool.get(isolation(b"other"), WEB) is not first

    run(test, profile=STRONG)


def test_congestion_control_is_told_how_long_the_paths_mixing_takes() -> None:
    async def test(rig: Rig) -> None:
        rig.mix = "poisson:0.05"
        managed = await rig.pool.get(isolation(), WEB)
        assert managed.circuit is not None
        assert managed.circuit.endpoint.congestion.mixing == pytest.approx(2 * 3 * 0.05)

    run(test)


def test_loops_are_counted_for_the_hops_that_they_passed_and_lost_with_their_circuit() -> None:
    async def test(rig: Rig) -> None:
        managed = await rig.pool.get(isolation(), WEB)
        assert managed.circuit is not None
        managed.circuit.send_loop(2, rig.world.now)
        rig.world.run()
        guard, middle, exit_ = (e.node_id for e in managed.path)
        of = rig.pool.measures.by_node
        assert (of[guard].returned, of[middle].returned) == (1, 1)
        assert exit_ not in of
        managed.circuit.send_loop(3, rig.world.now)
        managed.circuit.destroy()
        assert [of[n].lost for n in (guard, middle, exit_)] == [1, 1, 1]
        assert (rig.pool.measures.returned, rig.pool.measures.lost) == (1, 1)

    run(test)


def test_an_exit_without_room_is_not_asked_again_for_a_while() -> None:
    async def test(rig: Rig) -> None:
        first = await rig.pool.get(isolation(), WEB)
        rig.pool.exit_failed(first, EndReason.RESOURCE)
        made = rig.pool.made
        with pytest.raises(ExitsBusy):
            await rig.pool.get(isolation(), WEB)
        assert rig.pool.made == made, "no circuit is built in vain"
        await asyncio.sleep(BUSY_SECONDS + 1)
        assert await rig.pool.get(isolation(), WEB) is not first

    run(test)


def test_what_fails_at_one_target_shuts_no_exit_to_streams_of_others() -> None:
    async def test(rig: Rig) -> None:
        first = await rig.pool.get(isolation(b"alice", "no-way.example"), WEB)
        rig.pool.exit_failed(first, EndReason.RESOURCE)
        other = await rig.pool.get(isolation(b"bob", "honest.example"), WEB)
        assert other.path[-1].node_id == first.path[-1].node_id
        with pytest.raises(ExitsBusy):
            await rig.pool.get(isolation(b"alice", "no-way.example"), WEB)

    run(test)


def test_a_circuit_takes_only_so_many_streams() -> None:
    async def test(rig: Rig) -> None:
        first = await rig.pool.get(isolation(), WEB)
        assert first.circuit is not None
        for _ in range(STREAMS_PER_CIRCUIT):
            first.circuit.endpoint.open(WEB, Recorder())
        assert await rig.pool.get(isolation(), WEB) is not first

    run(test)
