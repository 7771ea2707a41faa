"""Measurements that need no network: one mixer, paths, days, and formulas."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from phantomband_cli.sim import theory as forms
from phantomband_cli.sim.adversaries import capture as paths
from phantomband_cli.sim.adversaries import flooding as flood
from phantomband_cli.sim.adversaries import intersection as days
from phantomband_cli.sim.metrics import mean, median
from phantomband_cli.sim.profiles import Profile
from phantomband_mixer.service import strategy

Rows = list[dict[str, Any]]

HONEST = (20.0, 200.0, 2000.0)
"""Cells a second through the mixer, each of another circuit."""

FLOOD = 2000.0
"""Cells a second that the attacker sends."""


def flooding(profile: Profile, networks: int, trials: int) -> Rows:
    """How often an attacker names the target's cell among those that leave a mixer, without and with n-1."""
    rows = []
    for honest in HONEST:
        count = max(4, min(trials, int(trials * 200 / honest)))
        found: dict[str, Any] = {}
        for name, block in (("passive", False), ("n_minus_1", True)):
            by_seed = []
            for seed in range(1, networks + 1):
                sample = [
                    flood.trial(
                        lambda random: strategy(profile.mixer, random),
                        honest,
                        FLOOD if block else 0.0,
                        f"{seed}/{i}",
                        block=block,
                    )
                    for i in range(count)
                ]
                by_seed.append([flood.success(sample, block=block)])
            found[name] = asdict(mean(by_seed))
        rows.append({"profile": profile.name, "honest": honest, "flood": FLOOD, "trials": count * networks, **found})
    return rows


def capture(networks: int) -> Rows:
    """Path capture by fraction of corrupt nodes."""
    rows = []
    nodes, circuits, users = 100, 50, 400
    for corrupt in (5, 10, 20, 30):
        drawn = [paths.simulated(nodes, corrupt, circuits, users, seed) for seed in range(1, networks + 1)]
        rows.append(
            {
                "fraction": corrupt / nodes,
                "circuits": circuits,
                "one_circuit": asdict(mean([[one] for one, _ in drawn])),
                "one_circuit_formula": paths.one_circuit(nodes, corrupt),
                "ever": asdict(mean([[ever] for _, ever in drawn])),
                "ever_formula": paths.ever(nodes, corrupt, circuits),
            }
        )
    return rows


def intersection(networks: int) -> Rows:
    """Visits until nobody else is left."""
    rows = []
    users, visits = 10_000, 200
    for online in (0.1, 0.3, 0.6, 0.9):
        drawn = [days.simulated(users, online, visits, seed) for seed in range(1, networks + 1)]
        rows.append(
            {
                "online": online,
                "users": users,
                "visits_to_link": asdict(median([[days.visits_to_link(left)] for left in drawn])),
                "visits_formula": days.visits_needed(users, online),
                "left_after_5": asdict(mean([[float(left[4])] for left in drawn])),
                "left_after_5_formula": days.expected(users, online, 5),
            }
        )
    return rows


def theory(networks: int) -> Rows:
    """Closed forms beside the real strategies."""
    rows = []
    for rate, delay in ((100.0, 0.05), (1000.0, 0.05), (400.0, 0.2)):
        drawn = [forms.exponential_entropy(rate, delay, seed) for seed in range(1, networks + 1)]
        rows.append(
            _beside(
                "exponential mix, entropy (bits)",
                f"{rate:g} cells/s, {delay:g} s",
                drawn,
                forms.exponential_formula(rate, delay),
            )
        )
    for minimum, fraction, arrivals in ((32, 0.5, 20), (32, 0.25, 40)):
        held = np.array([forms.pool_held(minimum, fraction, arrivals, 30, seed) for seed in range(1, networks + 1)])
        want = forms.pool_recursion(minimum, fraction, arrivals, 30)
        for tick in (5, 29):
            rows.append(
                _beside(
                    "pool, cells held",
                    f"m {minimum}, f {fraction:g}, a {arrivals}, tick {tick + 1}",
                    held[:, tick],
                    float(want[tick]),
                )
            )
        drawn = [forms.pool_entropy(minimum, fraction, arrivals, seed) for seed in range(1, networks + 1)]
        rows.append(
            _beside(
                "pool, entropy (bits)",
                f"m {minimum}, f {fraction:g}, a {arrivals}",
                drawn,
                forms.pool_formula(minimum, fraction, arrivals),
            )
        )
    return rows


def _beside(what: str, parameters: str, drawn: Any, formula: float) -> dict[str, Any]:
    return {
        "what": what,
        "parameters": parameters,
        "measured": asdict(mean([[float(x)] for x in drawn])),
        "formula": formula,
    }
