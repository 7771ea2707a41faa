"""The mixer's settings: its strategy, and the parameters of each."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, ValidationInfo, field_validator

from phantomband.core.mixing import published
from phantomband.runtime.settings.base import Section

MixName = Literal["none", "threshold", "timed", "pool", "poisson", "slots"]
MIX_NAMES: tuple[str, ...] = get_args(MixName)
"""Every mixing strategy."""


class MixerSection(Section):
    strategy: MixName = "none"
    interval: float = Field(default=0.02, ge=0.001, le=60)
    """Seconds between releases of the timed and pool strategies."""
    threshold: int = Field(default=64, ge=2)
    """Cells of a batch of the threshold strategy; less than max_cells."""
    pool_minimum: int = Field(default=32, ge=0)
    """Cells that the pool strategy keeps at each release, while they may wait; less than max_cells."""
    pool_fraction: float = Field(default=0.5, gt=0, le=1)
    """Share of the cells above pool_minimum that the pool strategy lets go at each release."""
    max_wait: float = Field(default=0.2, gt=0, le=60)
    """Seconds that the threshold and pool strategies hold a cell at most, so that low load stalls nothing."""
    mean_delay: float = Field(default=0.05, gt=0, le=60)
    """Seconds that the poisson strategy holds a cell on average; those behind a slow one of their circuit longer."""
    slot: float = Field(default=0.02, ge=0.001, le=60)
    """Seconds between two cells of one circuit with the slots strategy, which is also a limit of its rate."""
    slot_dummies: int = Field(default=256, ge=0, le=65_536)
    """Circuits whose empty slots the slots strategy fills with dummies for the link, a direction of a circuit counting
    as one; those that were silent longest get none. Each costs 100 KB a second with slots of 20 ms. A link that has
    cells waiting drops them. 0: no dummies."""
    max_cells: int = Field(default=65_536, ge=256, validate_default=True)
    """Cells held at once, 128 MiB; half as many again may wait for a gateway that is held up. Over it the circuits with
    the longest queues are dropped, until an eighth is free."""

    @field_validator("max_cells")
    @classmethod
    def _above_batches(cls, value: int, others: ValidationInfo) -> int:
        for key in ("threshold", "pool_minimum"):
            if value <= others.data.get(key, 0):
                raise ValueError(f"must be more than {key}, which is {others.data[key]}")
        return value

    @property
    def published(self) -> str:
        """What the node's descriptor says: the strategy, then its parameters (docs/reference/wire-format.md)."""
        return published.text(
            self.strategy, {name: getattr(self, name) for name in published.PARAMETERS[self.strategy]}
        )
