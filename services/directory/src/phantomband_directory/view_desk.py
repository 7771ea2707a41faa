"""The newest certified view of one node: taken from anyone if a quorum certified it, kept on disk, handed on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

from phantomband.core.errors import Malformed
from phantomband.core.netdir.certified import (
    CertifiedView,
    Expired,
    Forked,
    Freshness,
    ViewKeeper,
    freshness,
    verify_untrusted,
)
from phantomband.core.netdir.changes import DirectorySets
from phantomband.core.netdir.epoch import NO_EPOCH
from phantomband.core.netdir.replies import Reply
from phantomband.core.netdir.view_diff import certified_of

from phantomband_directory.storage import Storage

log = logging.getLogger(__name__)


class ViewDesk:
    """Holds the view.

    Args:
        stored: certified view of an earlier run, encoded; None without one. One that cannot be used is reported, and
            done without.
        changed: told of each newer view, after it is on disk.
    """

    def __init__(
        self,
        sets: DirectorySets,
        stored: bytes | None,
        storage: Storage,
        now: Callable[[], float],
        changed: Callable[[CertifiedView], None],
    ) -> None:
        self._sets, self._storage, self._now, self._changed = sets, storage, now, changed
        self._news = asyncio.Event()
        self.encoded: bytes | None = None
        """The view, as it is handed out."""
        self.remembered: CertifiedView | None = None
        """The stored view, though it may have expired: nothing older will be taken."""
        self._keeper = ViewKeeper(sets)
        if stored is not None:
            self._load(stored)

    @property
    def current(self) -> CertifiedView | None:
        return self._keeper.current

    @property
    def epoch(self) -> int:
        """Of the view held; 0 for none."""
        return NO_EPOCH if self.current is None else self.current.view.epoch

    @property
    def freshness(self) -> Freshness | None:
        """How the view held stands in time; None without one."""
        view = self.current
        return None if view is None else freshness(view.view, self._sets.clock, self._now())

    def take_untrusted(self, reply: Reply) -> CertifiedView | None:
        """Takes the view that an answer brings, whole or as a difference. Returns: it, if it is newer.

        Raises:
            Malformed: it is not to be used; `UnknownSet` if there are changes of the set to ask for.
        """
        certified = certified_of(reply, self.current)
        if certified is None:
            return None
        verified = verify_untrusted(certified, self._sets, self._now(), self._keeper.highest_epoch)
        return verified if self.accept(verified) else None

    def accept(self, certified: CertifiedView) -> bool:
        """Keeps, stores and hands on a view that was verified. Returns: whether it is newer."""
        try:
            newer = self._keeper.accept(certified)
        except Forked as fork:
            log.error("two certified views of epoch %d: evidence kept", certified.view.epoch)
            self._storage.keep_evidence(f"fork-{certified.view.epoch}", fork.first.encode(), fork.second.encode())
            return False
        if newer:
            self.encoded = certified.encode()
            self._storage.save_view(self.encoded)
            news, self._news = self._news, asyncio.Event()
            news.set()
            self._changed(certified)
        return newer

    async def watch(self) -> AsyncIterator[bytes]:
        """The newest certified view, and each newer one; those that come while the reader is slow are skipped."""
        seen: bytes | None = None
        while True:
            news, current = self._news, self.encoded
            if current is not None and current is not seen:
                seen = current
                yield current
            else:
                await news.wait()

    def _load(self, stored: bytes) -> None:
        try:
            self.remembered = CertifiedView.decode_untrusted(stored)
            self._keeper = ViewKeeper(self._sets, self.remembered.view.epoch)
            self._keeper.accept(verify_untrusted(stored, self._sets, self._now(), NO_EPOCH))
            self.encoded = stored
        except Expired:
            pass  # of no use to anyone, but nothing older will be taken either
        except Malformed as e:
            # What a quorum once signed, or the disk made of it, must not keep a directory from starting: then the
            # network could not heal. Others have newer views; what was voted and signed is remembered elsewhere.
            self.remembered, self._keeper = None, ViewKeeper(self._sets)
            self._storage.report("view", f"the stored view cannot be used ({e}); started without it")
