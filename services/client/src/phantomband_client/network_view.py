"""The client's certified view: from disk, from a directory of the genesis file, or over the guard's link.

Bytes are taken from anyone if a quorum certified them; never an older epoch than one seen before; always a whole view.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from phantomband.core.errors import Malformed, Refused, UserError
from phantomband.core.netdir.certified import CertifiedView, Forked, Freshness, ViewKeeper, freshness
from phantomband.core.netdir.genesis import Genesis
from phantomband.core.netdir.requests import GetView, ViewReply, decode_reply_untrusted, encode_request
from phantomband.core.netdir.view import View
from phantomband.runtime.keystore import write_whole

VIEW_FILE = "view"
STATE_FILE = "state.json"


class NetworkView:
    """Holds the newest certified view, and stores it."""

    def __init__(self, genesis: Genesis, data_dir: Path, clock: Callable[[], float]) -> None:
        self.genesis = genesis
        self._dir = data_dir
        self._clock = clock
        self._keeper = ViewKeeper(genesis, self._load_epoch())
        self._load()

    @property
    def current(self) -> View | None:
        certified = self._keeper.current
        return certified.view if certified is not None else None

    @property
    def certified(self) -> CertifiedView | None:
        return self._keeper.current

    def usable(self) -> bool:
        """Whether there is a view that may be used: in force, or up to 24 epochs old (then `warning` says so)."""
        return self._freshness() not in (None, Freshness.EXPIRED)

    def _freshness(self) -> Freshness | None:
        view = self.current
        return freshness(view, self.genesis.clock, self._clock()) if view is not None else None

    @property
    def warning(self) -> str:
        """What a person should know of the view's age; empty when there is nothing."""
        if self._freshness() is not Freshness.STALE:
            return ""
        return "the view of the network is old: no newer one was certified. Paths may lead through relays that are gone"

    def stale(self) -> bool:
        """Whether a newer view should exist by now."""
        view = self.current
        return view is None or self._clock() >= view.fresh_until

    def request(self) -> bytes:
        """What to ask a directory."""
        view = self.current
        return encode_request(GetView(view.epoch if view is not None else 0))

    def take(self, answer: bytes) -> bool:
        """Takes a directory's answer; whether it brought a newer view.

        Raises:
            Refused: it holds no view that can be used.
        """
        try:
            reply = decode_reply_untrusted(answer)
            if not isinstance(reply, ViewReply):
                return False
            newer = self._keeper.offer(reply.certified, self._clock())
        except Forked as e:
            raise UserError(f"{e}. The proof is in {self._export(e)}") from e
        except Malformed as e:
            raise Refused(f"a directory gave a view that cannot be used: {e}") from e
        if newer:
            self._save(reply.certified)
        return newer

    def _export(self, fork: Forked) -> Path:
        """Writes both certified views: anyone can check them against the genesis file."""
        proof = self._dir / f"fork-{fork.first.view.epoch}"
        proof.mkdir(mode=0o700, exist_ok=True)
        write_whole(proof / "first", fork.first.encode())
        write_whole(proof / "second", fork.second.encode())
        return proof

    def _load_epoch(self) -> int:
        try:
            return int(json.loads((self._dir / STATE_FILE).read_text())["highest_epoch"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def _load(self) -> None:
        """A stored view saves the download, if it still holds."""
        try:
            self._keeper.offer((self._dir / VIEW_FILE).read_bytes(), self._clock())
        except (OSError, Malformed):
            return

    def _save(self, certified: bytes) -> None:
        write_whole(self._dir / VIEW_FILE, certified)
        state = {"highest_epoch": self._keeper.highest_epoch}
        write_whole(self._dir / STATE_FILE, json.dumps(state).encode())
