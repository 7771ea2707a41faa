"""What descriptors say of mixing: both ways, and against what the strategies do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mixing_driver import Waits
from phantomband.core.errors import Malformed
from phantomband.core.mixing import published
from phantomband.core.mixing.published import PARAMETERS, Published, parse_untrusted, text
from phantomband.core.netdir.descriptor import MAX_MIX_BYTES
from phantomband.runtime.settings import MIX_NAMES, MixerSection
from phantomband_mixer.service import strategy
from world import Seeded

SECONDS = st.floats(0.001, 60)
SECTIONS = st.builds(
    MixerSection,
    strategy=st.sampled_from(sorted(PARAMETERS)),
    interval=SECONDS,
    threshold=st.integers(2, 1000),
    pool_minimum=st.integers(0, 1000),
    pool_fraction=st.floats(0, 1, exclude_min=True),
    max_wait=st.floats(0, 60, exclude_min=True),
    mean_delay=st.floats(0, 60, exclude_min=True),
    slot=SECONDS,
)


def test_limits_and_names_are_those_of_the_descriptor_and_the_configuration() -> None:
    assert published.MAX_BYTES == MAX_MIX_BYTES
    assert set(PARAMETERS) == set(MIX_NAMES)


@given(SECTIONS)
def test_what_a_configuration_publishes_is_read_back(section: MixerSection) -> None:
    read = parse_untrusted(section.published)
    assert (read.kind, read.text) == (section.strategy, section.published)
    assert read.values == tuple(getattr(section, name) for name in PARAMETERS[section.strategy])
    assert text(read.kind, dict(zip(PARAMETERS[read.kind], read.values, strict=True))) == section.published
    assert 0 <= read.mean_delay <= 60


@pytest.mark.parametrize(
    ("line", "mean"),
    [
        ("none", 0.0),
        ("threshold:64:0.2", 0.2),
        ("timed:0.02", 0.01),
        ("pool:0.02:32:0.5:0.2", 0.2),
        ("pool:0.02:0:0.5:0.2", 0.03),
        ("pool:0.02:0:0.01:0.2", 0.2),
        ("poisson:0.05", 0.05),
        ("slots:0.05", 0.025),
        ("timed:1e-3", 0.0005),
        ("timed:1", 0.5),
    ],
)
def test_mean_delays(line: str, mean: float) -> None:
    read = parse_untrusted(line)
    assert read.mean_delay == pytest.approx(mean)
    assert read.text == line


@pytest.mark.parametrize("name", MIX_NAMES)
def test_lone_cells_wait_for_the_mean_delay(name: str) -> None:
    """One cell at a time through the strategy itself, 4,000 of them at no particular phase."""
    section = MixerSection.model_validate({"strategy": name, "slot_dummies": 0})
    waits = Waits(strategy(section, Seeded(1)))
    for circuit in range(4000):
        waits.add(1, [circuit])
        waits.driver.wait(1.2345)
    times = waits.seconds() if name != "none" else [0.0]
    assert sum(times) / len(times) == pytest.approx(parse_untrusted(section.published).mean_delay, rel=0.07)


@pytest.mark.parametrize(
    "line",
    [
        "", "fast", "None", "none:", "none:1", "timed", "timed:", "timed:0", "timed:-1", "timed:61", "timed:nan",
        "timed:inf", "timed:0.02:1", "timed: 0.02", "timed:0_1", "timed:1e999", "timed:0x1", "timed:.5", "timed:5.",
        "timed:1e", "timed:\u0663",
        "threshold:64", "threshold:1:0.2", "threshold:64.0:0.2", "threshold:9999999999:0.2", "pool:0.02:32:1.5:0.2",
        "pool:0.02:32:0:0.2", "pool:0.02:-1:0.5:0.2", "poisson:0.05\n", "slots", "timed:" + "0" * 130, "x" * 129,
        "timed:0." + "1" * 60,
    ],
)  # fmt: skip
def test_junk_is_refused(line: str) -> None:
    with pytest.raises(Malformed):
        parse_untrusted(line)


@given(st.text() | st.from_regex(r"(none|threshold|timed|pool|poisson|slots)(:[0-9.e+-]{0,9}){0,5}", fullmatch=True))
def test_any_line_gives_a_value_or_the_declared_error(line: str) -> None:
    try:
        read = parse_untrusted(line)
    except Malformed:
        return
    assert isinstance(read, Published)
    assert read.kind in PARAMETERS
    assert 0 <= read.mean_delay <= published.MAX_SECONDS
