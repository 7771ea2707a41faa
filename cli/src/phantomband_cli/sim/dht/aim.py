"""Sybils that aim at one record or one directory: ids chosen near it, and a flood that makes them known there.

An id is the hash of keys, so it cannot be made, only found: of `generations` keys that an attacker makes, the
ids closest to the target are kept. Where contacts prove nothing, any id is as good as owned.

    key         the `NEAREST` ids closest to the record's key; they make themselves known to the honest ones near it
    directory   the same next to the directory's id, and as many in each of its buckets; they make themselves known
                to the directory
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from phantomband.core.dht.contact import Contact

from phantomband_cli.sim.dht.population import ID_BITS, Addresses
from phantomband_cli.sim.dht.scenario import Aim, Scenario

NEAREST = 64
"""Sybils next to one target: several for each network that they are in."""

NEIGHBOURS = 64
"""Honest directories closest to a key, who hear from the Sybils."""

EXACT_BITS = 200
"""Distance of ids that need no keys."""


def sybils(target: int, scenario: Scenario, addresses: Addresses, dice: random.Random) -> list[Contact]:
    """The Sybils of one target, their networks dealt out in turn."""
    places = list(_distances(scenario, dice))
    return [addresses.chosen(target ^ place, at % scenario.sybil_networks) for at, place in enumerate(places)]


def closest_distances(count: int, generations: int, dice: random.Random) -> list[int]:
    """Distances from a target to the `count` closest of so many random ids: sums of exponential gaps."""
    top, at, out = 1 << ID_BITS, 0.0, []
    for _ in range(count):
        at += dice.expovariate(generations)
        out.append(min(top - 1, int(at * top)))
    return out


def _distances(scenario: Scenario, dice: random.Random) -> Iterator[int]:
    if not scenario.parameters.prove:
        yield from (dice.getrandbits(EXACT_BITS) for _ in range(NEAREST))
    else:
        yield from closest_distances(NEAREST, scenario.generations, dice)
    if scenario.aim is Aim.DIRECTORY:
        reach = scenario.generations.bit_length() - NEAREST.bit_length()
        for bits in range(ID_BITS, ID_BITS - reach, -1):
            yield from ((1 << (bits - 1)) | dice.getrandbits(bits - 1) for _ in range(NEAREST))
