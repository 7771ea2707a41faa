"""What the relay can carry, as seen: the most that it relayed in any ten seconds of the last 24 hours.

A span counts the greater of what came and what went, in bytes of cells. Only the most of each hour is kept, so "24
hours" is 24 to 25. It is written to disk once an hour and at the end: a restart does not make a relay look weak.

    DATA/relay/capacity.json    {"hours": [[hour since 1970, bytes a second], ...]}

A busy relay's descriptor would tell of each of its peaks: what is said is rounded down to about a tenth.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

from phantomband.runtime.keystore import write_whole
from phantomband.runtime.state_files import DAMAGE

SPAN_SECONDS = 10.0
HOUR_SECONDS = 3600.0
HOURS = 24

STEPS = 8
"""Values told between a power of two and the next."""


class Capacity:
    """Counts what a relay carries.

    Args:
        clock: Unix seconds; a wrong one only shortens or lengthens the memory.
    """

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path, self._clock = path, clock
        self._hours = self._load()
        self._in = self._out = 0
        self._began = clock()

    def came(self, size: int) -> None:
        """Bytes of cells came."""
        self._in += size

    def went(self, size: int) -> None:
        """Bytes of cells went."""
        self._out += size

    @property
    def most(self) -> int:
        """Bytes a second, rounded down to one of eight steps between powers of two; 0: nothing was relayed yet."""
        return rounded(int(max(self._hours.values(), default=0)))

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(SPAN_SECONDS)
            self.end_span()

    def end_span(self) -> None:
        """Takes what was counted since the last time. A span that took longer, as when the machine slept, counts as
        little as it was."""
        now = self._clock()
        rate = max(self._in, self._out) / max(SPAN_SECONDS, now - self._began)
        self._in = self._out = 0
        self._began = now
        hour = int(now // HOUR_SECONDS)
        new_hour = hour not in self._hours
        self._hours[hour] = max(self._hours.get(hour, 0.0), rate)
        self._hours = {h: most for h, most in self._hours.items() if hour - HOURS <= h <= hour}
        if new_hour and len(self._hours) > 1:
            self.save()

    def save(self) -> None:
        """Writes what is known; nothing when nothing was relayed, or when it cannot be written."""
        hours = [[hour, round(most)] for hour, most in sorted(self._hours.items())]
        if any(most for _, most in hours):
            try:
                write_whole(self._path, json.dumps({"hours": hours}).encode())
            except OSError:
                pass

    def _load(self) -> dict[int, float]:
        try:
            found = {int(hour): float(most) for hour, most in json.loads(self._path.read_bytes())["hours"]}
        except (OSError, *DAMAGE):
            return {}
        now = int(self._clock() // HOUR_SECONDS)
        return {hour: most for hour, most in found.items() if now - HOURS <= hour <= now and 0 <= most < 2**62}


def rounded(value: int) -> int:
    """`value`, rounded down to one of `STEPS` steps between powers of two."""
    step = 1 << max(0, value.bit_length() - STEPS.bit_length())
    return value // step * step
