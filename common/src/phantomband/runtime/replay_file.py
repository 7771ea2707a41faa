"""A replay memory that a restart does not forget.

    DATA/SERVICE/replay    what `ReplayCache.encode` gives, mode 0600; up to 2 MiB a static key (6 MiB for a relay)

Written every five minutes when there is something new, and at an orderly end: what came in the last five minutes before
a crash can be sent a second time. Such a copy is answered under fresh keys, which tell nothing but that we hold the
static key. A file that cannot be read is left out: a relay that forgot serves on.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from phantomband.core.errors import Malformed
from phantomband.core.handshake.replay import ReplayCache
from phantomband.runtime.keystore import write_whole

SAVE_SECONDS = 300.0


class ReplayFile:
    """Loads `cache` at once, and saves it while `run` runs."""

    def __init__(self, path: Path, cache: ReplayCache) -> None:
        self._path, self._cache = path, cache
        self.lost = 0
        """Times that it could not be read or written."""
        self._saved = cache.added
        self._load()

    def _load(self) -> None:
        try:
            with self._path.open("rb") as file:
                self._cache.restore_untrusted(file.read(self._cache.max_bytes + 1))
        except FileNotFoundError:
            pass
        except (OSError, Malformed):
            self.lost += 1

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(SAVE_SECONDS)
            if self._cache.added != self._saved:
                added, data = self._cache.added, self._cache.encode()
                if await asyncio.to_thread(self._write, data):
                    self._saved = added

    def save(self) -> None:
        """At the end."""
        if self._cache.added != self._saved and self._write(self._cache.encode()):
            self._saved = self._cache.added

    def _write(self, data: bytes) -> bool:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(self._path, data)
        except OSError:
            self.lost += 1
            return False
        return True
