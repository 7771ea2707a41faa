"""The client's certified view: from disk, from a directory of the genesis file, or over the guard's link.

Bytes are taken from anyone if a quorum certified them; never an older epoch than one seen before; always a whole view,
or what leads from the one held to a whole newer one. Nothing is ever asked about one relay.

    DATA/view           the certified view
    DATA/changes        (length 4 | change of the directory set) *, checked again at each start
    DATA/state.json     {"highest_epoch": n}
    DATA/fork-EPOCH/    first, second: two certified views of one epoch, for everyone to check
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from phantomband.core.errors import Malformed, Refused, UserError
from phantomband.core.netdir.certified import (
    CertifiedView,
    Expired,
    Forked,
    Freshness,
    NotYetValid,
    UnknownSet,
    ViewKeeper,
    freshness,
)
from phantomband.core.netdir.changes import MAX_CHANGE_BYTES, DirectorySets
from phantomband.core.netdir.genesis import Genesis
from phantomband.core.netdir.replies import Changes, RefusedReply, Reply, decode_reply_untrusted
from phantomband.core.netdir.requests import GetChanges, GetView, encode_request
from phantomband.core.netdir.view import View
from phantomband.core.netdir.view_diff import certified_of, newer_request
from phantomband.core.wire import Reader, lv32
from phantomband.runtime.state_files import StateFiles

from phantomband_client.clock_check import explain

VIEW_FILE = "view"
STATE_FILE = "state.json"
CHANGES_FILE = "changes"

USED_EPOCHS = 24
"""A view is used for so long."""


class NetworkView:
    """Holds the newest certified view, and stores it."""

    def __init__(self, genesis: Genesis, files: StateFiles, clock: Callable[[], float]) -> None:
        self.genesis = genesis
        self._files = files
        self._clock = clock
        self._sets = DirectorySets(genesis)
        self._load_changes()
        self._keeper = ViewKeeper(self._sets, self._load_epoch())
        self._whole = False
        """Whether a difference was of no use, so that the whole view is asked for."""
        self._unknown_set = False
        """Whether a view came from a set of directories that the changes known here do not lead to."""
        self._asked_changes = False
        """Whether changes were asked for since the last good answer."""
        self.more_to_ask = False
        """Whether the last answer calls for another question at once."""
        self._load()

    @property
    def current(self) -> View | None:
        certified = self._keeper.current
        return certified.view if certified is not None else None

    @property
    def newest_set(self) -> Genesis:
        """The network with its directories of now, as far as the changes known here lead."""
        return self._sets.newest

    @property
    def certified(self) -> CertifiedView | None:
        return self._keeper.current

    def usable(self) -> bool:
        """Whether there is a view that may be used: in force, or up to 24 epochs old (then `warning` says so)."""
        return self.freshness not in (None, Freshness.EXPIRED)

    @property
    def freshness(self) -> Freshness | None:
        """How the view held stands in time; None without one."""
        view = self.current
        return freshness(view, self.genesis.clock, self._clock()) if view is not None else None

    @property
    def age_epochs(self) -> int:
        """Regular epochs since the view took effect."""
        view = self.current
        seconds = self._clock() - view.valid_after if view is not None else 0.0
        return max(0, int(seconds // self.genesis.clock.epoch_seconds))

    @property
    def warning(self) -> str:
        """What a person should know of the view's age; empty when there is nothing."""
        match self.freshness:
            case None if self._keeper.highest_epoch > self.genesis.clock.epoch_at(self._clock()) + USED_EPOCHS:
                return (
                    f"a view of epoch {self._keeper.highest_epoch} was seen here, it is said, far in the future by "
                    f"this machine's clock. Set the clock; if it is right, remove {STATE_FILE} and {STATE_FILE}.copy "
                    f"in {self._files.directory}"
                )
            case Freshness.STALE:
                return (
                    f"the view of the network is old, {self.age_epochs} epochs: no newer one was certified. Paths may "
                    "lead through relays that are gone. It is used for 24 epochs at most"
                )
            case Freshness.EXPIRED:
                return f"the view of the network is {self.age_epochs} epochs old and is not used any more"
        return ""

    def stale(self) -> bool:
        """Whether a newer view should exist by now."""
        view = self.current
        return view is None or self._clock() >= view.fresh_until

    def request(self) -> bytes:
        """What to ask a directory."""
        if self._unknown_set:
            return encode_request(GetChanges(self._sets.next_number))
        view = self.current
        if self._whole:
            return encode_request(GetView(view.epoch if view is not None else 0))
        return encode_request(newer_request(self.certified))

    def take(self, answer: bytes) -> bool:
        """Takes a directory's answer; whether it brought a newer view.

        Raises:
            Refused: it holds no view that can be used; `ClockOff` when this machine's clock is why.
            UserError: two certified views of one epoch: the network must not be used.
        """
        asked_whole, asked_changes = self._whole, self._unknown_set
        self._whole = self._unknown_set = self.more_to_ask = False
        try:
            reply = decode_reply_untrusted(answer)
            if asked_changes:
                self._take_changes(reply)
                return False
            certified = self._certified_of(reply, asked_whole)
            return certified is not None and self._offer(certified)
        except Forked as e:
            raise UserError(f"{e}. The proof is in {self._export(e)}") from e
        except Malformed as e:
            raise Refused(f"a directory gave a view that cannot be used: {e}") from e

    def _certified_of(self, reply: Reply, asked_whole: bool) -> bytes | None:
        """The whole view that an answer brings. Where a difference is refused or broken, the whole is asked for."""
        held = self.certified
        try:
            found = certified_of(reply, held)
        except Malformed:
            self._whole = self.more_to_ask = True
            return None
        if isinstance(reply, RefusedReply) and held is not None and not asked_whole:
            self._whole = True
        return found

    def _offer(self, certified: bytes) -> bool:
        try:
            newer = self._keeper.offer(certified, self._clock())
        except UnknownSet:
            if self._asked_changes:
                self._asked_changes = False
                raise
            self._unknown_set = self.more_to_ask = True
            return False
        except (Expired, NotYetValid) as e:
            raise explain(certified, self._sets, self._clock(), e) from e
        self._asked_changes = False
        if newer:
            self._save(certified)
        return newer

    def _take_changes(self, reply: Reply) -> None:
        self._asked_changes = self.more_to_ask = True
        if not isinstance(reply, Changes):
            return
        new = [self._sets.offer_untrusted(change) for change in reply.items]
        if any(new):
            stored = b"".join(lv32(change.encode()) for change in self._sets.changes)
            self._files.write(CHANGES_FILE, stored)

    def _export(self, fork: Forked) -> Path:
        """Writes both certified views: anyone can check them against the genesis file."""
        name = f"fork-{fork.first.view.epoch}"
        try:
            (self._files.directory / name).mkdir(mode=0o700, exist_ok=True)
        except OSError:
            pass  # a full disk: it is said, and tried again
        self._files.write(f"{name}/first", fork.first.encode())
        self._files.write(f"{name}/second", fork.second.encode())
        return self._files.directory / name

    def _load_changes(self) -> None:
        """They can be had again."""
        for change in self._files.read(CHANGES_FILE, _changes) or []:
            try:
                self._sets.offer_untrusted(change)
            except Malformed:
                return

    def _load_epoch(self) -> int:
        return self._files.read(STATE_FILE, _epoch, copy=True) or 0

    def _load(self) -> None:
        """A stored view saves the download, if it still holds."""
        try:
            self._keeper.offer(self._files.read(VIEW_FILE, bytes) or b"", self._clock())
        except Malformed:
            return

    def _save(self, certified: bytes) -> None:
        self._files.write(VIEW_FILE, certified)
        state = {"highest_epoch": self._keeper.highest_epoch}
        self._files.write(STATE_FILE, json.dumps(state).encode(), copy=True)


def _changes(data: bytes) -> list[bytes]:
    reader, found = Reader(data), []
    while reader.remaining:
        found.append(reader.lv32(MAX_CHANGE_BYTES))
    return found


def _epoch(data: bytes) -> int:
    epoch = json.loads(data)["highest_epoch"]
    if type(epoch) is not int or epoch < 0:
        raise ValueError("not an epoch")
    return epoch
