"""`phantomband profile`: what each profile does and costs."""

from __future__ import annotations

import json
from typing import Any

from phantomband.core.profiles import PROFILES, Profile

from phantomband_cli import show


def describe(profile: Profile) -> dict[str, Any]:
    """As JSON values. Rates are cells a second, both ways alike."""
    return {
        "name": profile.name,
        "summary": profile.summary,
        "link": profile.link.text,
        "pace_cells_a_second": profile.pace,
        "max_circuits": profile.max_circuits,
        "separate_circuits_by_destination": profile.by_destination,
        "relays_must": {"mean_delay_seconds": profile.min_delay, "padding": profile.min_padding.name.lower()},
        "most_bytes_a_second": profile.most_bytes_a_second,
        "idle_bytes_a_day": profile.idle_bytes_a_day,
    }


def show_profiles(as_json: bool) -> None:
    described = [describe(p) for p in PROFILES.values()]
    if as_json:
        print(json.dumps(described))
    else:
        show.profiles(described)
