"""Which worlds bench/directory.py compares: who attacks, and which defence is switched off."""

from __future__ import annotations

from dataclasses import dataclass, replace

from phantomband_cli.sim.dht.scenario import DEFENCES, Aim, Lie, Scenario, without

Cases = dict[str, Scenario]

SYBIL_NETWORKS = (8, 16, 32)
"""/16 networks of the Sybils: what a flood must pay for. 4 unless said."""

AIMED_NETWORKS = (4, 8, 16, 32)
"""The same, of Sybils that aim at one key."""

SURROUNDED_FROM = 16
"""... and at one directory."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Directories, seconds of warm-up, seconds measured, searches of each group of cases."""

    large: Scenario
    small: Scenario
    aimed: Scenario


FULL = Sizes(
    large=Scenario(directories=10_000, warm_up=600.0, seconds=300.0, searches=2000),
    small=Scenario(directories=300, warm_up=600.0, seconds=200.0, searches=1000),
    aimed=Scenario(directories=300, malicious=0.2, warm_up=600.0, seconds=200.0, searches=1000),
)
QUICK = Sizes(
    large=Scenario(directories=200, warm_up=90.0, seconds=60.0, searches=200),
    small=Scenario(directories=100, warm_up=90.0, seconds=60.0, searches=100),
    aimed=Scenario(directories=100, malicious=0.2, warm_up=120.0, seconds=60.0, searches=100, victims=8),
)


def liars(base: Scenario) -> Scenario:
    """20% of the directories lie."""
    return replace(base, malicious=0.2)


def both(base: Scenario, networks: int = 4) -> Scenario:
    """... and there are ten Sybils for each honest one."""
    return replace(liars(base), sybils=10.0, sybil_networks=networks)


def large(sizes: Sizes) -> Cases:
    return {"honest": sizes.large, "both": both(sizes.large)}


def defences(sizes: Sizes) -> Cases:
    """The same attacks with all defences, without each, without all."""
    attacks = {"liars": liars(sizes.small), "both": both(sizes.small)}
    found = {"honest": sizes.small, **attacks}
    for attack, scenario in attacks.items():
        found |= {f"{attack}, without {name}": without(scenario, name) for name in (*DEFENCES, "all")}
    return found


def networks(sizes: Sizes) -> Cases:
    """The flood from more networks."""
    return {f"both, {count} networks": both(sizes.small, count) for count in SYBIL_NETWORKS}


def aimed(sizes: Sizes) -> Cases:
    """20% liars, and Sybils with chosen ids at a key or at a directory; or liars that take others' ids."""
    keys = {count: replace(sizes.aimed, aim=Aim.KEY, sybil_networks=count) for count in AIMED_NETWORKS}
    surrounded = replace(sizes.aimed, aim=Aim.DIRECTORY, sybil_networks=SURROUNDED_FROM)
    impostors = replace(sizes.aimed, lies=(Lie.IMPERSONATE,))
    unsigned = tuple(name for name in DEFENCES if name != "signatures")
    return {
        **{f"key, {count} networks": scenario for count, scenario in keys.items()},
        **{f"key, 8 networks, without {name}": without(keys[8], name) for name in unsigned},
        "directory": surrounded,
        **{f"directory, without {name}": without(surrounded, name) for name in unsigned},
        "impostors": impostors,
        **{f"impostors, without {name}": without(impostors, name) for name in ("paths", "proofs")},
    }


GROUPS = {"large": large, "defences": defences, "networks": networks, "aimed": aimed}

QUICK_CASES = {
    "large": ("honest", "both"),
    "defences": ("both", "both, without all"),
    "networks": (),
    "aimed": ("key, 8 networks", "key, 8 networks, without prefixes"),
}


def of_group(group: str, quick: bool) -> Cases:
    """The cases of one group, in their order."""
    found = GROUPS[group](QUICK if quick else FULL)
    return {name: found[name] for name in QUICK_CASES[group]} if quick else found
