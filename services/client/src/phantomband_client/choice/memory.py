"""What the client remembers of each transport on each network that it was on.

The file: `{"salt": hex, "networks": {name: {"seen": t, "transports": {"tls": {"worked": t, "failed": t, "failures": n,
"seconds": s}}}}}`, times in Unix seconds. It is written when something changed that the next start should know.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from phantomband.core.crypto.random_source import RandomSource
from phantomband.runtime.state_files import StateFiles

TRANSPORTS_FILE = "transports.json"
"""In the data directory."""

SALT_BYTES = 16

MAX_NETWORKS = 32
"""Remembered; the one not seen for longest is forgotten."""

FIRST_PAUSE, LAST_PAUSE = 60.0, 6 * 3600.0
"""Seconds for which a transport that failed stands behind the others: doubled by each failure in a row."""

FORGET_SECONDS = 7 * 86_400.0
"""What was learnt longer ago counts no more: networks change."""


@dataclass(frozen=True, slots=True)
class Known:
    """Of one transport on one network; times in Unix seconds, 0: never."""

    worked: float = 0.0
    failed: float = 0.0
    failures: int = 0
    """In a row, up to now."""
    seconds: float = 0.0
    """Until the link was up, the last time."""

    def pausing(self, now: float) -> bool:
        """Whether it failed so recently that others come first."""
        if not self.failures or self.failed > now:  # the clock was set back since
            return False
        return now < self.failed + min(FIRST_PAUSE * 2.0 ** min(self.failures - 1, 20), LAST_PAUSE)


class TransportMemory:
    """The file, and the network that the client is on now.

    Args:
        network: gives that network's name from a salt; asked at each use, since machines move.
    """

    def __init__(
        self, files: StateFiles, clock: Callable[[], float], network: Callable[[bytes], str], random: RandomSource
    ) -> None:
        self._files, self._clock, self._network = files, clock, network
        self._salt, self._networks = files.read(TRANSPORTS_FILE, _decode) or (b"", {})
        if not self._salt:
            self._salt = random(SALT_BYTES)

    def of(self, transport: str) -> Known:
        """What is known of it on this network."""
        return self._here().get(transport, Known())

    def pausing(self, transport: str) -> bool:
        """Whether it failed here so recently that others come first."""
        return self.of(transport).pausing(self._clock())

    def in_order(self, transports: Iterable[str]) -> list[str]:
        """Those that worked here come first, then those of which nothing is known, last those that failed just now.

        Within each kind the given order holds.
        """
        now, here = self._clock(), self._here()

        def rank(transport: str) -> int:
            known = here.get(transport, Known())
            if known.pausing(now):
                return 2
            return 0 if known.worked > known.failed else 1

        return sorted(transports, key=rank)

    def worked(self, transport: str, seconds: float) -> None:
        """A link was up `seconds` after the dial began."""
        before = self.of(transport)
        self._note(transport, Known(self._clock(), before.failed, 0, seconds))

    def failed(self, transport: str) -> None:
        """No link, or one that fell silent, while others were to be had."""
        before = self.of(transport)
        self._note(transport, replace(before, failed=self._clock(), failures=before.failures + 1))

    def _here(self) -> dict[str, Known]:
        transports = self._networks.get(self._network(self._salt), (0.0, {}))[1]
        since = self._clock() - FORGET_SECONDS
        return {name: known for name, known in transports.items() if max(known.worked, known.failed) > since}

    def _note(self, transport: str, known: Known) -> None:
        now = self._clock()
        self._networks[self._network(self._salt)] = (now, {**self._here(), transport: known})
        while len(self._networks) > MAX_NETWORKS:
            del self._networks[min(self._networks, key=lambda name: self._networks[name][0])]
        networks = {
            name: {"seen": seen, "transports": {t: asdict(known) for t, known in transports.items()}}
            for name, (seen, transports) in self._networks.items()
        }
        stored = json.dumps({"salt": self._salt.hex(), "networks": networks})
        self._files.write(TRANSPORTS_FILE, stored.encode())


def _decode(data: bytes) -> tuple[bytes, dict[str, tuple[float, dict[str, Known]]]]:
    """Salt and networks. Raises: what a file that is not ours makes of it."""
    read: Any = json.loads(data)
    salt = bytes.fromhex(read["salt"])
    if len(salt) != SALT_BYTES:
        raise ValueError("not a salt")
    networks = {
        str(name): (
            _number(found["seen"]),
            {str(t): _known(known) for t, known in found["transports"].items()},
        )
        for name, found in read["networks"].items()
    }
    return salt, networks


def _known(found: Any) -> Known:
    failures = int(found["failures"])
    return Known(_number(found["worked"]), _number(found["failed"]), max(0, failures), _number(found["seconds"]))


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number) or number < 0:
        raise ValueError("not a time")
    return number
