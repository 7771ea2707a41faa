"""`bridge add | list | remove`: the bridges that a client keeps."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from phantomband.core.bridge_line import TRANSPORTS
from phantomband.core.errors import UserError
from phantomband_client.bridges import StoredBridges, transports_of


@dataclass(frozen=True, slots=True)
class Added:
    """How many were new, and how many there are now."""

    new: int
    total: int
    foreign: tuple[str, ...] = ()
    """Transports that are not ours."""

    @property
    def text(self) -> str:
        """For a person."""
        done = f"{self.new} new, {self.total} in all; the client begins there from its next start on"
        if not self.foreign:
            return done
        names = ", ".join(self.foreign)
        return f"{done}\n{names}: not built in. Give the client the program that does it: --pt '{names} exec PROGRAM'"


def stored(config: Path | None, data_dir: Path | None) -> StoredBridges:
    """The bridges of the client that is meant.

    Raises:
        UserError: neither or both say which client it is, or the configuration cannot be used.
    """
    if (config is None) == (data_dir is None):
        raise UserError("which client? Give either --data-dir or --config")
    if data_dir is not None:
        return StoredBridges(data_dir)
    return StoredBridges(_data_dir(config))


def add_bridges(lines: Sequence[str], config: Path | None, data_dir: Path | None) -> Added:
    """Adds all, or none if one of them is wrong.

    Args:
        lines: bridge lines; `-` stands for those of standard input.

    Raises:
        UserError: a line is wrong, or the file cannot be written.
    """
    book = stored(config, data_dir)
    wanted = [text for line in lines for text in (sys.stdin.read().splitlines() if line == "-" else [line])]
    wanted = [text for text in wanted if text.strip() and not text.startswith("#")]
    if not wanted:
        raise UserError("there is no bridge line to add")
    new = book.add(wanted)
    transports = dict.fromkeys(name for name in transports_of(book.lines()) if name not in TRANSPORTS)
    return Added(new, len(book.lines()), tuple(transports))


def _data_dir(config: Path | None) -> Path:
    """That of a configuration, which may lack the bridges that make it whole."""
    from phantomband.runtime.settings import ClientConfig, load

    return load(ClientConfig, config, flags=['bridges=["any"]']).data_dir
