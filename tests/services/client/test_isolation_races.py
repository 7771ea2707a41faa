"""Whom a circuit is for is settled before anything happens on it: no order of events puts two users on one circuit."""

from __future__ import annotations

import asyncio

from phantomband.core.profiles import STRONG
from phantomband.core.stream.messages import target
from phantomband_client.managed import Managed
from pool_rig import WEB, Rig, isolation, run


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_a_circuit_that_opens_while_another_user_asks_is_not_his() -> None:
    async def test(rig: Rig) -> None:
        rig.guard_link.held = True
        loop = asyncio.get_running_loop()
        alice = loop.create_task(rig.pool.get(isolation(b"alice", "bank.example"), WEB))
        await turns()
        bob = loop.create_task(rig.pool.get(isolation(b"bob", "forum.example"), WEB))
        loop.call_soon(rig.world.run)  # the last answer for Alice's circuit comes in the turn in which Bob asks
        await turns()
        rig.world.run()
        one, other = await alice, await bob
        assert one is not other
        assert (one.isolation, other.isolation) == (isolation(b"alice", "bank.example"),
                                                    isolation(b"bob", "forum.example"))  # fmt: skip

    run(test)


def test_whatever_turn_the_answers_come_in_users_are_apart() -> None:
    for turn in range(12):

        async def test(rig: Rig, turn: int = turn) -> None:
            rig.guard_link.held = True
            loop = asyncio.get_running_loop()
            asked = [loop.create_task(rig.pool.get(isolation(bytes((user,))), WEB)) for user in range(4)]
            await turns(turn)
            rig.world.run()
            rig.guard_link.held = False
            rig.guard_link.touch(None)
            got = [await one for one in asked]
            assert len({id(m) for m in got}) == 4
            assert [m.isolation for m in got] == [isolation(bytes((user,))) for user in range(4)]

        run(test, ready=2)


def test_a_stream_from_after_a_new_identity_does_not_join_an_attempt_from_before() -> None:
    async def test(rig: Rig) -> None:
        rig.guard_link.held = True
        before = asyncio.ensure_future(rig.pool.get(isolation(), WEB))
        await turns()
        assert rig.pool.new_identity() == 1
        after = asyncio.ensure_future(rig.pool.get(isolation(), WEB))
        await turns()
        rig.guard_link.held = False
        rig.guard_link.touch(None)
        assert await before is not await after

    run(test)


def test_streams_that_share_an_attempt_for_different_targets_get_exits_that_suit_each() -> None:
    """With one circuit for all destinations, the second stream may want a port that the first one's exit refuses."""

    async def test(rig: Rig) -> None:
        only_443, everything = rig.policy, rig.policy.parse(("accept *:*",))
        rig.guard_link.held = True
        web = asyncio.ensure_future(rig.pool.get(isolation(), WEB))
        await turns()
        ssh = asyncio.ensure_future(rig.pool.get(isolation(), target("example.net", 22)))
        await turns()
        rig.policy, rig.guard_link.held = everything, False
        rig.guard_link.touch(None)
        first: Managed = await web
        assert first.path[-1].policy is only_443
        assert (await ssh).serves(22, None)

    run(test, profile=STRONG, policy=("accept *:443",))
