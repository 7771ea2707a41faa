"""Which directories certify, now and later: takes changes of the set, keeps them on disk, passes them on.

A change that is handed in must act with notice (`genesis.terms.notice_epochs`), so that every directory hears of it
in time. Whoever was away fetches what the others have taken.
"""

from __future__ import annotations

from collections.abc import Callable

from phantomband.core.errors import Malformed, UserError
from phantomband.core.netdir.changes import DirectorySets
from phantomband.core.netdir.genesis import Genesis
from phantomband.core.netdir.view import NO_DIGEST

from phantomband_directory.parts import Store

MAX_REPLY_CHANGES = 16
"""Handed out at a time: they fit a reply."""


class Roster:
    """The sets of one network, as this directory knows them.

    Raises:
        UserError: the store holds changes that do not follow the genesis file.
    """

    def __init__(self, genesis: Genesis, store: Store, now: Callable[[], float]) -> None:
        self._store, self._now = store, now
        self.sets = DirectorySets(genesis)
        for raw in store.load_changes():
            try:
                self.sets.offer_untrusted(raw)
            except Malformed as e:
                raise UserError(
                    f"The stored changes of the directory set cannot be used ({e}). If the network was made anew, give "
                    "the node a new state directory."
                ) from e

    @property
    def epoch(self) -> int:
        return self.sets.clock.epoch_at(self._now())

    @property
    def in_force(self) -> Genesis:
        """The network with the set that certifies the present epoch."""
        return self.sets.at(self.epoch)

    def seconds_left(self) -> float:
        """Until another set that is known takes over; a year if there is none."""
        acts_at = [change.acts_at for change in self.sets.changes if change.acts_at > self.epoch]
        return self.sets.clock.start(acts_at[0]) - self._now() if acts_at else 365 * 86400.0

    def offer_untrusted(self, raw: bytes, *, submitted: bool) -> bool:
        """Takes a change that a quorum has signed.

        Args:
            submitted: somebody hands it in, so it must act with notice; one that was fetched is in force elsewhere.

        Returns: whether it was new: pass it on.

        Raises:
            Malformed: it is none, does not follow what is known here, or comes without notice.
        """
        notice = self.sets.genesis.terms.notice_epochs
        new = self.sets.offer_untrusted(raw, not_before=self.epoch + notice if submitted else 0)
        if new:
            self._store.save_changes(self.sets.encoded(1, len(self.sets.changes)))
        return new

    def lacks(self, pending: bytes) -> bool:
        """Whether a vote or view announces a change that is not known here."""
        return pending != NO_DIGEST and all(change.digest != pending for change in self.sets.changes)

    def handed_out(self, number: int) -> tuple[bytes, ...]:
        """Changes from `number` on, some at a time."""
        return tuple(self.sets.encoded(number, MAX_REPLY_CHANGES))
