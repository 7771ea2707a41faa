"""How many DROPs an exit may send its client: the ones that the protocol has it send, and hardly one more.

Whoever sees the link to the guard sees each cell that comes. If an exit could send DROPs as it likes, it could write
to that watcher, or to a guard that is its friend, whose circuit this is (Tor proposal 324, section 4.1.4, has the same
concern). So a DROP is taken

- on a circuit that the exit paces, as many as its pace makes since it began, late ones included;
- else only while streams are open, one each `KEEPALIVE_SECONDS`, with room for those that were held up together, and
  for `AFTER` that were on the way when the last stream ended.

Any other ends the circuit.
"""

from __future__ import annotations

from phantomband.core.errors import Malformed

KEEPALIVE_SECONDS = 10.0
"""How often both ends of a circuit that carries streams send a DROP."""

HELD_UP = 8
"""DROPs at once on a circuit that is not paced: those of 80 s. A link that was silent for 75 s is given up."""

AFTER = 2
"""DROPs since a stream was last seen open: one was on the way, and one may be mixed past it."""

DRIFT = 1.01
"""Of two clocks that count the pace."""

SLACK_SECONDS = 10.0
"""Of pace, beside the time since it began here: there it began earlier, by what the answer took."""


class Drops:
    """The DROPs of one exit. Times are seconds of any clock."""

    __slots__ = ("_after", "_began", "_filled", "_paced", "_room")

    def __init__(self) -> None:
        self._room = float(HELD_UP)
        self._filled = 0.0
        self._after = 0
        self._began: float | None = None
        self._paced = 0

    def paced(self, now: float) -> None:
        """The exit says that from now on it keeps a pace."""
        self._began, self._paced = now, 0

    def came_untrusted(self, now: float, pace: int, *, streams: bool, used: bool) -> None:
        """One came.

        Args:
            pace: cells a second that the exit keeps; 0: none.
            streams: whether any are open; used: whether any ever were.

        Raises:
            Malformed: it should not have come.
        """
        if pace and self._began is not None:
            self._paced += 1
            if self._paced > pace * (DRIFT * (now - self._began) + SLACK_SECONDS):
                raise Malformed("more DROPs than the pace makes")
            return
        self._after = 0 if streams else self._after + 1
        self._room = min(float(HELD_UP), self._room + DRIFT * (now - self._filled) / KEEPALIVE_SECONDS)
        self._filled = now
        if not used or self._after > AFTER or self._room < 1:
            raise Malformed("a DROP that nothing calls for")
        self._room -= 1
