"""Clocks that are off: a little harms nobody, more is told to whom it concerns."""

from __future__ import annotations

from typing import Any

import pytest


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
    assert all(
        text.startswith("clocks of other directories are off by ours: dir6 (") for i, text in said.items() if i < 6
    )
    assert said[7] == "", "who does not vote hears no votes"


def test_two_of_seven_are_off_in_different_ways(network_of: Any, virtual: Any) -> None:
    epochs, said = run(network_of, virtual, {5: 100.0, 6: -30.0})
    assert min(epochs[i] for i in range(5)) >= 13
    assert "this machine's clock" in said[5]
    assert "this machine's clock" in said[6]
    assert "dir5" in said[0]
    assert "dir6" in said[0]
