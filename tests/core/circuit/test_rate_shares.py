"""Fixed rates are shared: neither many circuits of one source nor a few large ones leave nothing to the others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from phantomband.core.circuit.rate_shares import LITTLE, RateShares
from phantomband.core.circuit.relay_types import RelayLimits
from phantomband.core.profiles import STRONG
from world import World

TOTAL = RelayLimits().paced_cells


def test_circuits_of_one_client_never_take_the_pace_of_another() -> None:
    """Even one that comes by way of the same relay."""
    world = World()
    greedy = [world.built("r1", "r2", "r3") for _ in range(16)]
    for circuit in greedy:
        circuit.ask_pace(1024)
    world.run()
    assert sum(circuit.pace or 0 for circuit in greedy) == TOTAL // 4
    modest = world.built("r1", "r2", "r3")
    modest.ask_pace(STRONG.pace)
    world.run()
    assert modest.pace == STRONG.pace


def test_large_rates_of_all_sources_together_leave_the_reserve() -> None:
    shares = RateShares(TOTAL)
    for source in range(20):
        for i in range(20):
            shares.take((source, i), source, 1024)
    assert shares.used == TOTAL * 3 // 4
    assert shares.take("modest", "another", STRONG.pace)
    assert not shares.take("large", "another", LITTLE + 1)


def test_of_the_reserve_too_a_source_has_a_share_only() -> None:
    shares = RateShares(TOTAL)
    for source in range(3):
        shares.take(source, source, TOTAL // 4)
    got = sum(shares.take(("many", i), "many", STRONG.pace) for i in range(400))
    assert got < 400 * STRONG.pace
    assert shares.take("modest", "another", STRONG.pace)


def test_little_always_fits_into_a_small_total_once() -> None:
    assert RateShares(256).take("a", "s", LITTLE)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), st.integers(0, 1200))))
def test_what_is_given_back_can_be_taken_again_and_the_total_holds(asks: list[tuple[int, int, int]]) -> None:
    shares, held = RateShares(2048), {}
    for holder, source, rate in asks:
        held[holder] = rate if shares.take(holder, source, rate) else 0
        assert sum(held.values()) <= 2048
    for holder in held:
        shares.give_back(holder)
    assert (shares.used, shares._reserved, shares._sources, shares._held) == (0, 0, {}, {})
