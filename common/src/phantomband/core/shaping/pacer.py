"""Pacers: when a link's slots are, and how many cells each carries, real or not. Sans-io.

A slot carries exactly its number of cells: real ones first, dummies fill it. Slots are about 31 ms long; where a rate
would put more than eight full records into one they are shorter, and below 32 cells a second they are one cell.

`ConstantPacer` has one rate. `AdaptivePacer` has a ladder of rates (DESIGN.md section 5):

    up      at a slot, when more cells wait than the rung carries in 1/8 s: one rung, which this slot has already
    down    one rung, an exponential time (mean 30 s) after the rung was last needed: it is needed while the one below,
            given the same cells, would have more waiting than it carries in 1/8 s
    silent  below the lowest rung, which is needed for 75 s after each circuit's cell in either direction

**A slot that was missed is made up for**: `due` gives one late slot after the other, whole, so that the number of cells
sent by any time is the schedule's, whatever the cause of the delay. It depends on the clock alone, never on what waits.
Slots more than a second late are lost, and the schedule begins anew.
"""

from __future__ import annotations

from typing import Final, Protocol

from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.mixing.shuffle import Draw
from phantomband.core.shaping.shape import LADDER, Mode, Schedule, Shape

SLOTS_A_SECOND: Final = 32
"""DESIGN.md section 5 has slots of 20 to 50 ms; with 32 a second, the ladder's rates above it have whole slots."""

SLOT_CELLS: Final = 120
"""Most cells of a slot: eight full records."""

DOWN_SECONDS: Final = 30.0
"""Mean time on a rung that is not needed (DESIGN.md section 5)."""

QUIET_SECONDS: Final = 75.0
"""A link without a circuit's cell for so long carries none in use: one that has streams sends a cell each 10 s."""

BACKLOG_SECONDS: Final = 0.125
"""A slot of the lowest rung. With one slot of each rung as the bound, every burst of a busy link would climb to the
top, and pad there for half a minute."""

SURPLUS_SECONDS: Final = 1.0
"""How much of its own rate the rung below is thought to have waiting at most, so that a burst is forgotten."""

MAX_LATE_SECONDS: Final = 1.0


class Pacer(Protocol):
    """Times are seconds of one clock that does not go back."""

    @property
    def deadline(self) -> float | None:
        """When the next slot is; None: until `carried` is called there is none."""

    def due(self, now: float, waiting: int) -> int:
        """Takes the oldest slot that is due by `now`, if there is one.

        Args:
            waiting: cells that wait to be sent.
        Returns: cells that the slot carries, no more and no fewer; 0: no slot is due.
        """

    def carried(self, now: float) -> None:
        """A circuit's cell came, or is to be sent."""


def slot_of(rate: int) -> tuple[int, float]:
    """(cells, seconds) of a slot at `rate` cells a second."""
    cells = max(1, min(round(rate / SLOTS_A_SECOND), SLOT_CELLS))
    return cells, cells / rate


def make_pacer(shape: Shape, now: float, random: RandomSource) -> Pacer | None:
    """The pacer of a shape; None for `off`."""
    match shape.mode:
        case Mode.OFF:
            return None
        case Mode.ADAPTIVE:
            return AdaptivePacer(shape, now, random)
        case Mode.CONSTANT:
            return ConstantPacer(shape, now, random)


class _Clock:
    """The distances between slots."""

    __slots__ = ("_draw", "_schedule")

    def __init__(self, schedule: Schedule, random: RandomSource) -> None:
        self._schedule = schedule
        self._draw = Draw(random)

    def next(self, slot: float, now: float, mean: float) -> float:
        """When the slot after the one of `slot` is."""
        if now - slot > MAX_LATE_SECONDS:
            slot = now
        return slot + (mean if self._schedule is Schedule.FIXED else self._draw.exponential(mean))

    def patience(self) -> float:
        """How long a rung is kept that is not needed."""
        return self._draw.exponential(DOWN_SECONDS)


class ConstantPacer:
    """One rate for ever, whatever waits."""

    __slots__ = ("_cells", "_clock", "_mean", "deadline")

    def __init__(self, shape: Shape, now: float, random: RandomSource) -> None:
        self._clock = _Clock(shape.schedule, random)
        self._cells, self._mean = slot_of(shape.rate)
        self.deadline = self._clock.next(now, now, self._mean)

    def due(self, now: float, waiting: int) -> int:
        if now < self.deadline:
            return 0
        self.deadline = self._clock.next(self.deadline, now, self._mean)
        return self._cells

    def carried(self, now: float) -> None:
        """Changes nothing."""


class AdaptivePacer:
    """Rates of the ladder up to the shape's; silent while the link carries no circuits, as it is at first."""

    __slots__ = ("_clock", "_down_at", "_last", "_rung", "_slots", "_surplus", "deadline")

    def __init__(self, shape: Shape, now: float, random: RandomSource) -> None:
        self._clock = _Clock(shape.schedule, random)
        self._slots = [(rate, *slot_of(rate)) for rate in LADDER if rate <= shape.rate]
        self.deadline: float | None = None
        self._last = now
        self._to_rung(0)

    @property
    def rate(self) -> int:
        """Cells a second now; 0 while it is silent."""
        return 0 if self.deadline is None else self._slots[self._rung][0]

    def carried(self, now: float) -> None:
        self._last = now
        if self.deadline is None:
            self.deadline = now
            self._to_rung(0)

    def due(self, now: float, waiting: int) -> int:
        if self.deadline is None or now < self.deadline:
            return 0
        if waiting > self._slots[self._rung][0] * BACKLOG_SECONDS and self._rung + 1 < len(self._slots):
            self._to_rung(self._rung + 1)
        cells = self._slots[self._rung][1]
        step_down = self._unneeded(now, waiting, min(waiting, cells))
        if step_down and self._rung == 0:
            self.deadline = None
        else:
            if step_down:
                self._to_rung(self._rung - 1)
            self.deadline = self._clock.next(self.deadline, now, self._slots[self._rung][2])
        return cells

    def _to_rung(self, rung: int) -> None:
        self._rung = rung
        self._surplus = 0.0
        self._down_at: float | None = None

    def _unneeded(self, now: float, waiting: int, sent: int) -> bool:
        """Whether it is time to step down."""
        if self._needed(now, waiting, sent):
            self._down_at = None
        elif self._down_at is None:
            self._down_at = now + self._clock.patience()
        return self._down_at is not None and now >= self._down_at

    def _needed(self, now: float, waiting: int, sent: int) -> bool:
        if self._rung == 0:
            return waiting > 0 or now - self._last <= QUIET_SECONDS
        lower = self._slots[self._rung - 1][0]
        surplus = self._surplus + sent - lower * self._slots[self._rung][2]
        self._surplus = min(max(0.0, surplus), lower * SURPLUS_SECONDS)
        return self._surplus > lower * BACKLOG_SECONDS
