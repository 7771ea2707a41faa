"""Whose clock is off, when a certified view does not fit this machine's time.

A view's times follow from its epoch, and directories sign only for an epoch that is ending. So a view that a quorum
signed and that lies in the future here proves that this machine's clock is behind, unless a third of the directories
are wrong together. A view that is too old proves less: it may be this clock, or whoever gave it, or nothing was
certified for long.

A clock may be behind by an epoch, and by a minute where epochs are shorter, and ahead by 23 epochs (a view is used for
24): that far, everything works.
"""

from __future__ import annotations

from phantomband.core.errors import Malformed, Refused
from phantomband.core.netdir.certified import CertifiedView, NotYetValid, verify_untrusted
from phantomband.core.netdir.changes import Sets

REMEDY = "Set the clock (or turn on the system's time service) and check the time zone; the client goes on by itself"


class ClockOff(Refused):
    """This machine's clock does not fit what a quorum of the directories signed."""


def explain(data: bytes, sets: Sets, now: float, cause: Malformed) -> Malformed | ClockOff:
    """What to raise for a view that was refused as expired or not yet valid.

    Returns: `cause` when no quorum signed the view: then it says nothing about clocks.
    """
    try:
        certified = CertifiedView.decode_untrusted(data)
        verify_untrusted(data, sets, float(certified.view.valid_after), 0)
    except Malformed:
        return cause
    view, clock = certified.view, sets.clock
    if isinstance(cause, NotYetValid):
        behind = clock.cutoff(view.epoch) - now
        return ClockOff(
            f"this machine's clock is behind by at least {duration(behind)}: a quorum of the directories has signed a "
            f"view of a later time. {REMEDY}"
        )
    ahead = now - clock.stale_until(view.epoch)
    return ClockOff(
        f"the newest view that can be had ended {duration(ahead)} ago by this machine's clock. Either that clock is "
        f"ahead by at least so much, or the directories have certified nothing for 24 epochs. {REMEDY}"
    )


def duration(seconds: float) -> str:
    """For people: the largest unit that gives at least two of it."""
    for unit, size in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(1.0, seconds):.0f} seconds"
