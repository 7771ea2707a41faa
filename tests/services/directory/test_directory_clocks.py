"""Clocks that are off: a little harms nobody, more is told to whom it concerns."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from phantomband.core.netdir import requests
from phantomband_directory.parts import RelayFacts


def run(network_of: Any, virtual: Any, errors: dict[int, float]) -> tuple[dict[int, int], dict[int, str]]:
    """Seven directories over some long epochs. Returns: epoch of each one's view, and what each says of clocks."""
    found: tuple[dict[int, int], dict[int, str]] = ({}, {})

    async def main() -> None:
        network = network_of(7)
        network.clock_errors = errors
        network.start(*range(8))
        await network.run_to(14)
        found[0].update(network.view_epochs())
        found[1].update({i: n.service.status().clock for i, n in network.nodes.items()})

    virtual(main())
    return found


def test_clocks_within_the_bound_are_no_trouble(network_of: Any, virtual: Any) -> None:
    epochs, said = run(network_of, virtual, {1: 1.4, 2: -1.4, 3: 1.0})
    assert min(epochs[i] for i in range(7)) >= 13
    assert set(said.values()) == {""}


@pytest.mark.parametrize(("error", "word"), [(300.0, "ahead"), (-20.0, "behind"), (20.0, "ahead")])
def test_who_is_off_learns_it_and_the_others_go_on(network_of: Any, virtual: Any, error: float, word: str) -> None:
    epochs, said = run(network_of, virtual, {6: error})
    assert min(epochs[i] for i in range(6)) >= 13
    assert said[6].startswith(f"this machine's clock is about {abs(error):.0f} s {word}")
    assert not any("this machine" in text for i, text in said.items() if i < 6), "it does not vote by a wrong clock"
    assert said[7] == "", "who does not vote hears no votes"


def test_two_of_seven_are_off_in_different_ways(network_of: Any, virtual: Any) -> None:
    epochs, said = run(network_of, virtual, {5: 100.0, 6: -30.0})
    assert min(epochs[i] for i in range(5)) >= 13
    assert "this machine's clock" in said[5]
    assert "this machine's clock" in said[6]
    assert "this machine's clock" not in said[0]


def test_a_clock_that_is_ahead_for_a_moment_costs_an_epoch_at_most(network_of: Any, virtual: Any) -> None:
    """A step of NTP, and back: that directory votes again, and says what happened while it lasts."""

    async def main() -> None:
        network = network_of(4)
        network.start(*range(4))
        await network.run_to(12)
        memory = network.nodes[3].store.memory
        network.clock_errors[3] = 365 * 86400.0
        await asyncio.sleep(6)
        assert "jumped 31536000 s ahead" in network.nodes[3].service.status().clock
        assert network.nodes[3].service.status().descriptors == 4, "nothing is forgotten as expired"
        network.clock_errors[3] = 0.0
        await asyncio.sleep(6)
        assert network.nodes[3].service.status().clock == ""
        after = network.nodes[3].store.memory
        assert after.voted_epoch <= memory.voted_epoch + 1, "nothing was voted by that time"
        await network.run_to(15)
        assert {13, 14, 15} & set(network.nodes[3].store.memory.voted) >= {14, 15}
        assert set(network.view_epochs().values()) == {15}

    virtual(main())


def test_a_machine_that_slept_votes_again_though_nobody_else_is_there(network_of: Any, virtual: Any) -> None:
    """All directories of a laptop sleep together: none of them may wait for the others for good."""

    async def main() -> None:
        network = network_of(4)
        network.start(*range(4))
        await network.run_to(12)
        network.clock_errors = dict.fromkeys(range(4), 7200.0)
        await asyncio.sleep(3 * 32 + 20)
        epoch = network.genesis.clock.epoch_at(network.now() + 7200.0)
        assert min(network.view_epochs().values()) >= epoch - 1
        assert {node.service.status().clock for node in network.nodes.values()} == {""}

    virtual(main())


@pytest.mark.parametrize("node", [3, 4], ids=["a directory", "another node"])
@pytest.mark.parametrize("step", [3600.0, 2 * 86400.0, -3600.0])
def test_a_node_whose_clock_was_wrong_for_a_moment_stays_in_the_views(
    network_of: Any, virtual: Any, node: int, step: float
) -> None:
    """What it signed by that clock is taken by nobody, so it signs anew as soon as the clock is right."""

    async def main() -> None:
        network = network_of(4)
        network.start(*range(5))
        await network.run_to(12)
        assert f"n{node}" in network.names(0)
        network.clock_errors[node] = step
        await asyncio.sleep(6)
        network.nodes[node].relay_facts = RelayFacts(bytes(31) + b"\x09", "accept *:80")  # signed twice by that clock
        await asyncio.sleep(6)
        network.clock_errors[node] = 0.0
        await network.run_to(22)
        for other in range(4):
            assert f"n{node}" in network.names(other)
        assert not network.nodes[0].store.evidence

    virtual(main())


@pytest.mark.parametrize("node", [3, 4], ids=["a directory", "another node"])
@pytest.mark.parametrize("step", [2 * 86400.0, -2 * 86400.0])
def test_no_wait_lasts_as_long_as_a_clock_was_wrong(network_of: Any, virtual: Any, node: int, step: float) -> None:
    """Gossip, the table and tries of newcomers go on when the clock is right again."""

    async def main() -> None:
        network = network_of(4)
        network.start(*range(5))
        await network.run_to(12)
        network.clock_errors[node] = step
        await asyncio.sleep(40)
        network.clock_errors[node] = 0.0
        await asyncio.sleep(12)
        network.start(5)
        asked, tried = len(network.calls), len(network.tries)
        await asyncio.sleep(100)
        kinds = {kind for source, _, kind, _ in network.calls[asked:] if source == node}
        assert {requests.Kind.RECONCILE, requests.Kind.TABLE} <= kinds
        assert node == 4 or (3, network.key(5).node_id) in network.tries[tried:]

    virtual(main())
