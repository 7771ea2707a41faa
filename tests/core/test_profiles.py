"""Profiles: what they ask of relays, and what they cost."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from phantomband.core.profiles import BALANCED, FAST, PROFILES, STRONG, mean_delay


def relay(mix: str, padding: str) -> Any:
    return SimpleNamespace(mix=mix, padding=padding)


@pytest.mark.parametrize(
    ("mix", "padding", "suited"),
    [
        ("none", "off", {"fast"}),
        ("timed:0.02", "off", {"fast"}),
        ("none", "adaptive:fixed:512", {"fast"}),
        ("timed:0.02", "adaptive:fixed:512", {"fast", "balanced", "strong"}),
        ("poisson:0.05", "constant:poisson:128", {"fast", "balanced", "strong"}),
        ("timed:0.001", "adaptive:fixed:512", {"fast"}),
        ("some future mix:7", "adaptive:fixed:512", {"fast"}),
        ("timed:0.02", "some future padding", {"fast"}),
        ("", "", {"fast"}),
    ],
)
def test_a_relay_suits_the_profiles_that_ask_for_no_more_than_it_says(mix: str, padding: str, suited: set[str]) -> None:
    assert {name for name, profile in PROFILES.items() if profile.suits(relay(mix, padding))} == suited


def test_what_a_relay_says_of_its_delay() -> None:
    assert mean_delay(relay("timed:0.02", "off")) == pytest.approx(0.01)
    assert mean_delay(relay("nonsense", "off")) == 0.0


def test_what_the_profiles_cost() -> None:
    assert FAST.idle_bytes_a_day == 0
    assert FAST.most_bytes_a_second is None
    assert BALANCED.idle_bytes_a_day == 2 * 8 * 2048 * 86_400
    assert BALANCED.most_bytes_a_second == 512 * 2048
    assert STRONG.idle_bytes_a_day == 2 * 40 * 2048 * 86_400
    assert STRONG.most_bytes_a_second == 16 * 2048


def test_the_links_rate_holds_all_paced_circuits() -> None:
    assert STRONG.pace * STRONG.max_circuits <= STRONG.link.rate
