"""Directories vote for nodes that they have reached, and for no others."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from phantomband.core.netdir.address import NodeAddress


def test_a_node_that_is_not_where_it_says_stays_out_until_it_is(network_of: Any, virtual: Any) -> None:
    async def main() -> None:
        network = network_of(4)
        liar = network.node(5)
        true = liar.gateway_facts
        network.start(0, 1, 2, 3, 4)
        liar.gateway_facts = replace(true, addresses=(NodeAddress("tcp", "127.0.0.9", 1),))
        network.start(5)
        facts, liar.gateway_facts = liar.gateway_facts, true
        liar.gateway = lambda: _said(facts)
        await asyncio.sleep(50)
        assert network.names(0) == {"n0", "n1", "n2", "n3", "n4"}
        for index in range(4):
            status = network.nodes[index].service.status()
            assert (status.spread.reached, status.spread.unreached) == (4, 1)
            assert status.descriptors == 6, "it is held and passed on, only not voted for"
        liar.gateway = lambda: _said(true)
        await asyncio.sleep(80)
        assert "n5" in network.names(0)

    virtual(main())


async def _said(facts: Any) -> Any:
    return facts


def test_thirty_nodes_are_in_the_first_view(network_of: Any, virtual: Any) -> None:
    """Reaching them takes 5 ms each here, 16 at once."""

    async def main() -> None:
        network = network_of(4, min_relays=30)
        network.start(*range(30))
        await network.run_to(1)
        assert network.names(0) == {f"n{index}" for index in range(30)}
        for index in range(4):
            assert network.nodes[index].service.status().view_epoch == 1
        assert len(network.tries) <= 4 * 29

    virtual(main())


def test_a_member_that_is_gone_is_given_up_and_then_tried_seldom(network_of: Any, virtual: Any) -> None:
    async def main() -> None:
        network = network_of(4)
        network.genesis = replace(network.genesis, clock=replace(network.genesis.clock, epoch_seconds=60))
        network.start(*range(7))
        await network.run_to(11)
        assert "n6" in network.names(0)
        network.cut = {(directory, 6) for directory in range(4)}
        network.tries.clear()
        await asyncio.sleep(60)
        assert "n6" in network.names(0), "one failure or two put nobody out"
        await asyncio.sleep(300)
        assert "n6" not in network.names(0)
        assert network.names(0) == {f"n{index}" for index in range(6)}
        gone = network.key(6).node_id
        assert len([one for one in network.tries if one == (0, gone)]) < 40
        network.cut.clear()
        await asyncio.sleep(300)
        assert "n6" in network.names(0), "it may come back"

    virtual(main())


def test_a_directory_that_is_cut_off_gives_up_nobody(network_of: Any, virtual: Any) -> None:
    async def main() -> None:
        network = network_of(4)
        network.start(*range(7))
        await network.run_to(11)
        network.cut = {(0, other) for other in range(1, 7)}
        await asyncio.sleep(400)
        votable = {one.node_id for one in network.nodes[0].service._pool.votable(network.now())}
        assert len(votable) == 7

    virtual(main())
