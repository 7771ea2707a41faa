"""The bridges that a client was given with `phantomband bridge add`: one line each in a file of its data directory."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from phantomband.core.bridge_line import WORD, BridgeLine, parse_all
from phantomband.core.errors import UserError
from phantomband.runtime.directories import make_private
from phantomband.runtime.keystore import write_whole
from phantomband.runtime.settings import STORED_BRIDGES

MAX_BRIDGES = 64

NAME = re.compile(r"[a-z][a-z0-9_]{0,15}", re.ASCII)


class StoredBridges:
    """The file. Lines are in order of use; the file has mode 0600: who reads it knows whom we dial."""

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / STORED_BRIDGES

    def lines(self) -> list[str]:
        """As they were added; none if there is no file.

        Raises:
            UserError: it cannot be read.
        """
        try:
            return [line for line in self.path.read_text().splitlines() if line.strip()]
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as e:
            raise UserError(
                f"{self.path}: cannot be read ({e}). Mend it, or remove it and add the bridges again"
            ) from e

    def add(self, texts: Sequence[str]) -> int:
        """Adds all that are not there, or none. Returns: how many were new.

        Raises:
            UserError: a line is wrong, of another network than the others, or there are too many.
        """
        held = self.lines()
        lines = list(dict.fromkeys((*held, *(bridge.text() for bridge in parse_all(texts, transports_of(texts))))))
        if len(lines) > MAX_BRIDGES:
            raise UserError(f"that would be over {MAX_BRIDGES} bridges. Remove some first: phantomband bridge remove")
        parse_all(lines, transports_of(lines))
        if len(lines) > len(held):
            self._save(lines)
        return len(lines) - len(held)

    def remove(self, number: int) -> BridgeLine:
        """Args: number: from 1 on, as they are listed.

        Raises:
            UserError: there is no such one.
        """
        held = self.lines()
        if not 0 < number <= len(held):
            raise UserError(f"there is no bridge {number}. `phantomband bridge list` shows them with their numbers")
        gone = BridgeLine.parse(held[number - 1], transports_of([held.pop(number - 1)]))
        self._save(held)
        return gone

    def _save(self, lines: list[str]) -> None:
        try:
            make_private(self.path.parent)
            write_whole(self.path, "".join(f"{line}\n" for line in lines).encode())
        except OSError as e:
            raise UserError(f"{self.path}: cannot be written ({e.strerror}). Choose another --data-dir") from e


def transports_of(lines: Sequence[str]) -> list[str]:
    """Names of transports as the lines have them: which of them other programs do is known when the client starts."""
    words = [line.split() for line in lines]
    found = [w[w[0].lower() == WORD.lower()] for w in words if len(w) > 1]
    return [name for name in found if NAME.fullmatch(name)]
