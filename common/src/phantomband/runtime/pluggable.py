"""External transport programs, from a configuration: the same for client and gateway."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from phantomband.runtime.settings import PluggableProgram
from phantomband.transports.managed.program import Command
from phantomband.transports.managed.transport import Programs

FOLDER = "pluggable"
"""Of a data directory: what the programs keep."""


def command(entry: PluggableProgram) -> Command:
    """Raises: UserError: the program is not there, or a name cannot be one."""
    return Command.of(entry.transports, entry.program, entry.arguments)


def programs(entries: Sequence[PluggableProgram], data_dir: Path, proxy: str = "") -> Programs:
    """Args: proxy: URI of the proxy that they must dial through. Raises: UserError."""
    return Programs([command(entry) for entry in entries], data_dir / FOLDER, proxy)
