"""What `phantomband sim` is asked to measure, and how its figures are put together over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from phantomband.core.errors import UserError
from phantomband.runtime.settings import MixerSection
from pydantic import ValidationError

from phantomband_cli.sim.correlate import Correlator
from phantomband_cli.sim.metrics import Estimate, mean, median
from phantomband_cli.sim.network import Scenario

MODELS = ("exact", "fast")
FALSE_POSITIVES = (1e-2, 1e-3)
PARAMETER = {
    "threshold": "max_wait",
    "timed": "interval",
    "pool": "interval",
    "poisson": "mean_delay",
    "slots": "slot",
}
"""What `--interval` sets, in the configuration's `mixer` section; the other parameters keep their defaults."""

STEPS = 12
"""Times at which the adversary looks, evenly spread over the measured seconds: the resolution of the time to link."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run."""

    scenario: Scenario
    mix: str
    intervals: tuple[float, ...]
    """Seconds, one measurement for each: the strategy's main parameter; `none` has none."""
    seeds: tuple[int, ...]
    model: str = "exact"
    """Or `fast`: the vectorised model."""
    profile: str | None = None
    """A profile to measure instead of mixing alone; only in the vectorised model."""

    def check(self) -> None:
        """
        Raises:
            UserError: options that do not go together.
        """
        if self.model not in MODELS:
            raise UserError(f"--model {self.model}: there is no such model. Use {' or '.join(MODELS)}")
        if self.profile is not None and self.model != "fast":
            raise UserError(f"--profile {self.profile}: the exact model has no pacing and no cover. Add --model fast")
        scenario = self.scenario
        if self.model == "fast" and (scenario.spread or scenario.access.loss):
            raise UserError("--loss, --spread: only the exact model has them. Leave --model fast out")

    def sections(self) -> list[MixerSection]:
        """The strategies to compare; the control first.

        Raises:
            UserError: a strategy or parameter that the mixer does not have.
        """
        out = [MixerSection()]
        if self.mix != "none":
            out += [_section(self.mix, interval) for interval in self.intervals]
        return out


@dataclass(frozen=True, slots=True)
class Sample:
    """One seed's figures."""

    top1: float
    true_positives: dict[float, float | None]
    times_to_link: list[float]
    first_byte: list[float]
    cells: int
    payload_bytes: int
    whole: float | None
    """None: the model does not look at bytes."""
    correlator: Correlator


@dataclass(frozen=True, slots=True)
class Row:
    """One strategy over all seeds."""

    strategy: str
    interval: float | None
    top1: Estimate
    true_positives: dict[str, Estimate]
    time_to_link: Estimate
    first_byte: Estimate
    cells: Estimate
    payload_bytes: Estimate
    bin: Estimate
    """The adversary's length of a bin, seconds."""
    lag: Estimate
    """The longest delay that the adversary tries, seconds."""
    whole: Estimate
    """Share of flows that lost nothing."""


def _section(mix: str, interval: float) -> MixerSection:
    try:
        return MixerSection.model_validate({"strategy": mix, PARAMETER.get(mix, "interval"): interval})
    except ValidationError as e:
        fault = e.errors()[0]
        flag = {"strategy": "--mix"}.get(str(fault["loc"][0]), "--interval")
        raise UserError(f"{flag} {fault['input']}: {fault['msg']}") from e


def summed_up(name: str, interval: float | None, samples: Sequence[Sample]) -> Row:
    """All seeds' figures in one row."""
    return Row(
        name,
        interval,
        mean([[s.top1] for s in samples]),
        {f"{rate:g}": mean([_known(s.true_positives[rate]) for s in samples]) for rate in FALSE_POSITIVES},
        median([s.times_to_link for s in samples]),
        mean([s.first_byte for s in samples]),
        mean([[s.cells] for s in samples]),
        mean([[s.payload_bytes] for s in samples]),
        mean([[s.correlator.width] for s in samples]),
        mean([[s.correlator.lag] for s in samples]),
        mean([_known(s.whole) for s in samples]),
    )


def _known(value: float | None) -> list[float]:
    return [] if value is None else [value]
