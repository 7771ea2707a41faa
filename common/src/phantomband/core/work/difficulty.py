"""Difficulty that follows the rate of joins: the same bits at everyone who has the same certified views.

    joins of an epoch = nodes in its view that were in none of the views before it
    mean of the last `window` epochs over twice the expected rate: one bit more
    below half of it: one bit less

One bit doubles the work, so a flood of constant power is halved by each epoch's step. Both sides of the step differ by
a factor of four, which keeps the bits from swinging. Bits end at a ceiling: who floods must not be able to shut the
door on everybody else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from phantomband.core.errors import UserError
from phantomband.core.work.stamp import MAX_BITS

MAX_WINDOW = 64
"""Epochs of joins that a rule may look back on."""


@dataclass(frozen=True, slots=True)
class DifficultyRule:
    """Of one network. `expected` joins an epoch are welcome at the price in force."""

    floor: int = 4
    ceiling: int = 12
    expected: int = 8
    window: int = 3

    def __post_init__(self) -> None:
        if not 0 <= self.floor <= self.ceiling <= MAX_BITS:
            raise UserError(f"Difficulty: floor and ceiling must be in order, from 0 to {MAX_BITS} bits.")
        if self.expected < 1 or not 1 <= self.window <= MAX_WINDOW:
            raise UserError(f"Difficulty: expect at least 1 join an epoch, over 1 to {MAX_WINDOW} epochs.")


FREE = DifficultyRule(floor=0, ceiling=0)
"""Test networks: any solution will do."""


def next_bits(bits: int, joins: Sequence[int], rule: DifficultyRule) -> int:
    """Bits of the next epoch.

    Args:
        bits: those in force.
        joins: of the epochs so far, the newest last; only the last `rule.window` count.

    Returns: at most one more or less than `bits`, within floor and ceiling.
    """
    recent = joins[-rule.window :]
    welcome = rule.expected * len(recent)
    if sum(recent) > 2 * welcome:
        bits += 1
    elif 2 * sum(recent) < welcome:
        bits -= 1
    return max(rule.floor, min(bits, rule.ceiling))


def bits_after(joins: Sequence[int], rule: DifficultyRule) -> int:
    """Bits in force after a network's whole history of joins, the oldest first; `rule.floor` where there is none."""
    bits = rule.floor
    for end in range(1, len(joins) + 1):
        bits = next_bits(bits, joins[max(0, end - rule.window) : end], rule)
    return bits
