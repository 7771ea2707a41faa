"""Rates that do not depend on payload: when a link sends, how many cells, and how its ends agree on that.

`shape` is what the ends agree on, `pacer` the schedules. DESIGN.md section 5; docs/explanation/padding.md says what an
observer still learns.
"""

from phantomband.core.shaping.pacer import AdaptivePacer, ConstantPacer, Pacer, make_pacer, slot_of
from phantomband.core.shaping.shape import LADDER, MAX_RATE, OFF, Mode, Policy, Schedule, Shape

__all__ = [
    "LADDER",
    "MAX_RATE",
    "OFF",
    "AdaptivePacer",
    "ConstantPacer",
    "Mode",
    "Pacer",
    "Policy",
    "Schedule",
    "Shape",
    "make_pacer",
    "slot_of",
]
