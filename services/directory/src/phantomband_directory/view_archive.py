"""The last certified views, from which askers get the difference to the newest, and the differences made so far.

What is kept is what was asked of: a view is taken when the first request comes while it is the newest. So whoever got a
view here will get the next one as a difference. Nothing is kept over a restart: then the whole view goes out once.
"""

from __future__ import annotations

from phantomband.core.netdir.certified import CertifiedView
from phantomband.core.netdir.epoch import NO_EPOCH, STALE_EPOCHS
from phantomband.core.netdir.replies import NotNewer, Reply, ViewDiffReply, ViewReply
from phantomband.core.netdir.requests import GetViewDiff
from phantomband.core.netdir.view_diff import make_diff

KEPT = 3
"""Views in force at one time (epoch.VALID_EPOCHS)."""

KEPT_SMALL = STALE_EPOCHS
SMALL_BYTES = 256 * 1024
"""Views up to this size, some 1,200 relays, are kept for as long as anyone may still use them: 6 MiB at most."""


class ViewArchive:
    """Answers GET_VIEW_DIFF."""

    def __init__(self) -> None:
        self._newest: CertifiedView | None = None
        self._digest = b""
        """Of the newest: hashing a large view takes milliseconds, and is done once."""
        self._views: dict[bytes, bytes] = {}
        """Encoded views by digest, oldest first; the newest is the last."""
        self._diffs: dict[bytes, bytes | None] = {}
        """What leads to the newest, by digest of the base; None: the whole view is not larger."""

    def note(self, view: CertifiedView | None) -> None:
        """The newest view at this time."""
        if view is None or view is self._newest:
            return
        self._newest, self._digest = view, view.digest
        self._diffs.clear()
        self._views[self._digest] = view.view_bytes
        kept = KEPT_SMALL if len(view.view_bytes) <= SMALL_BYTES else KEPT
        while len(self._views) > kept:
            del self._views[next(iter(self._views))]

    def answer(self, request: GetViewDiff, view: CertifiedView | None, encoded: bytes | None) -> Reply:
        """The difference, the whole view where there is none, or that there is no newer one.

        An asker whose view of the newest epoch is another one gets ours too: it can prove the fork with it.
        """
        self.note(view)
        if view is None or encoded is None:
            return NotNewer(NO_EPOCH)
        same = view.view.epoch == request.have_epoch and self._digest == request.have_digest
        if same or view.view.epoch < request.have_epoch:
            return NotNewer(view.view.epoch)
        diff = self._diff(request.have_digest, view)
        return ViewReply(encoded) if diff is None else ViewDiffReply(diff)

    def _diff(self, base: bytes, view: CertifiedView) -> bytes | None:
        held = self._views.get(base)
        if held is None:
            return None
        if base not in self._diffs:
            self._diffs[base] = make_diff(held, view)
        return self._diffs[base]
