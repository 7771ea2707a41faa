"""The table's closest contacts are those of a plain sort over all it holds, while contacts come, fail and go."""

from __future__ import annotations

import random

import pytest
from phantomband.core.dht.contact import by_distance
from phantomband.core.dht.parameters import Parameters
from phantomband.core.dht.table import RoutingTable
from phantomband_cli.sim.dht.population import Addresses


@pytest.mark.parametrize("seed", range(4))
def test_closest_are_the_closest_whatever_happened_to_the_table(seed: int) -> None:
    dice = random.Random(seed)
    addresses = Addresses(dice, 1)
    own = addresses.anywhere()
    table = RoutingTable(own, Parameters())
    doubted = set()
    for step in range(600):
        contact = addresses.anywhere() if step % 3 else addresses.near(own.number, addresses.anywhere())
        table.add(contact, float(step))
        if step % 4 == 0:
            one = dice.choice(table.contacts())
            table.failed(one)
            doubted ^= {one.node_id}
        if step % 20 == 0:
            target = dice.getrandbits(256) if step % 40 else own.number ^ dice.getrandbits(1 + dice.randrange(256))
            held = [one for one in table.contacts() if one.node_id not in doubted]
            assert table.closest(target, 17) == by_distance(held, target)[:17]
            nearest = table.siblings()
            assert nearest == by_distance(nearest, own.number)
            assert len(nearest) <= 16
    assert len(table) > 60
