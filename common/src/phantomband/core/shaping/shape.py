"""How one end of a link paces what it sends, and the SHAPE cell in which the ends agree on it.

    body = mode 1 | schedule 1 | rate 4 | zeros          circuit 0, command SHAPE

The dialer's SHAPE asks how the listener shall pace; the listener's says what it does. Each end paces its own direction.
As text, in descriptors and views: `off`, or mode, schedule and rate joined by `:`, such as `constant:poisson:128`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Self

from phantomband.core.cell import BODY_BYTES, LINK_CIRCUIT, Command, encode
from phantomband.core.errors import Malformed
from phantomband.core.wire import u8, u32

LADDER: Final = (8, 32, 128, 512, 2048, 8192, 32_768)
"""Rates of `adaptive`, cells a second: those of DESIGN.md section 5, and, between nodes, on by four times each."""

MAX_RATE: Final = LADDER[-1]
"""Cells a second: 67 MB/s."""

SHAPE_BYTES: Final = 6


class Mode(IntEnum):
    """From the weakest to the strongest."""

    OFF = 0
    """Cells leave as they come."""
    ADAPTIVE = 1
    """Slots at a rate that follows the load on a ladder, while the link carries circuits."""
    CONSTANT = 2
    """Slots at one rate, always."""


class Schedule(IntEnum):
    """When slots are."""

    FIXED = 0
    """Equally spaced."""
    POISSON = 1
    """At exponential distances with the same mean."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How an end paces. `rate` is cells a second: of `adaptive` the highest, one of `LADDER`; of `off` 0.

    Raises:
        Malformed: a rate or schedule that does not befit the mode.
    """

    mode: Mode
    schedule: Schedule = Schedule.FIXED
    rate: int = 0

    def __post_init__(self) -> None:
        match self.mode:
            case Mode.OFF:
                right = self.rate == 0 and self.schedule is Schedule.FIXED
            case Mode.ADAPTIVE:
                right = self.rate in LADDER
            case Mode.CONSTANT:
                right = 1 <= self.rate <= MAX_RATE
        if not right:
            raise Malformed(f"no rate of {self.mode.name.lower()} padding: {self.rate}")

    @property
    def text(self) -> str:
        """As descriptors have it."""
        if self.mode is Mode.OFF:
            return "off"
        return f"{self.mode.name.lower()}:{self.schedule.name.lower()}:{self.rate}"

    @classmethod
    def parse_untrusted(cls, text: str) -> Self:
        """The inverse of `text`.

        Raises:
            Malformed: anything that `text` does not write.
        """
        mode, *rest = text.upper().split(":")
        try:
            shape = cls(Mode[mode]) if not rest else cls(Mode[mode], Schedule[rest[0]], int(rest[1]))
        except (KeyError, ValueError, IndexError) as e:
            raise Malformed("not a padding mode") from e
        if shape.text != text:
            raise Malformed("not the one form of a padding mode")
        return shape

    def cell(self) -> bytes:
        """The SHAPE cell, 2,048 bytes."""
        return encode(LINK_CIRCUIT, Command.SHAPE, u8(self.mode) + u8(self.schedule) + u32(self.rate))

    @classmethod
    def decode_untrusted(cls, body: bytes) -> Self:
        """The body, 2,043 bytes, of a SHAPE cell.

        Raises:
            Malformed: an unknown mode or schedule, a rate that does not befit it, or not zeros behind it.
        """
        if len(body) != BODY_BYTES or any(body[SHAPE_BYTES:]):
            raise Malformed("a SHAPE cell of the wrong form")
        try:
            mode, schedule = Mode(body[0]), Schedule(body[1])
        except ValueError as e:
            raise Malformed("a SHAPE cell names an unknown mode or schedule") from e
        return cls(mode, schedule, int.from_bytes(body[2:SHAPE_BYTES], "big"))

    def at_most(self, rate: int) -> Shape | None:
        """The same at a rate of no more than `rate` cells a second; None: there is none."""
        rates = LADDER if self.mode is Mode.ADAPTIVE else (min(self.rate, rate),)
        fitting = [r for r in rates if 0 < r <= min(self.rate, rate)]
        return Shape(self.mode, self.schedule, fitting[-1]) if fitting else None


OFF: Final = Shape(Mode.OFF)


@dataclass(frozen=True, slots=True)
class Policy:
    """What an end does by itself, and what it does for who asks."""

    own: Shape = OFF
    max_rate: int = 0
    """Cells a second that a dialer may ask for; 0: it gets what is done anyway."""

    def answer(self, ask: Shape) -> Shape:
        """What is done for a dialer that asks for `ask`.

        Never a weaker mode than our own. A mode as strong or stronger is done at the rate that was asked for, up to
        `max_rate`, or up to our own rate when it is our own mode.
        """
        if ask.mode < self.own.mode or ask.mode is Mode.OFF:
            return self.own
        limit = max(self.max_rate, self.own.rate) if ask.mode is self.own.mode else self.max_rate
        return ask.at_most(limit) or self.own
