"""What is wrong now and what to do, for `phantomband status`: each line belongs to who said it, who takes it back."""

from __future__ import annotations

from typing import Literal

About = Literal["view", "guard", "health", "state", "clock", "environment"]


class Troubles:
    """At most one line about each thing."""

    def __init__(self) -> None:
        self._lines: dict[About, str] = {}

    def say(self, about: About, line: str) -> None:
        """Args: line: in words, without an address; empty: it is well again."""
        if line:
            self._lines[about] = line
        else:
            self._lines.pop(about, None)

    @property
    def text(self) -> str:
        """All of them; empty when there is nothing."""
        return "; ".join(dict.fromkeys(self._lines.values()))
