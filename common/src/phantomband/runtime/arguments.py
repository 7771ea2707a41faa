"""The command line that every service has: a configuration file and settings that override it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from phantomband.runtime import unix_path
from phantomband.runtime.settings import ClientConfig, NodeConfig, load

C = TypeVar("C", NodeConfig, ClientConfig)


def parse(service: str, kind: type[C], argv: Sequence[str] | None) -> C:
    """The service's configuration.

    Raises:
        UserError: a value cannot be used; says which and what to do.
    """
    parser = argparse.ArgumentParser(prog=f"python -m phantomband_{service}", description=f"PhantomBand {service}")
    parser.add_argument("--config", type=Path, help="configuration file (TOML)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="overrides one setting")
    chosen = parser.parse_args(argv)
    return load(kind, chosen.config, flags=chosen.set)


def target(config: NodeConfig, service: str) -> str:
    """Where another service of the node is reached, as gRPC writes it: a Unix socket that only this user can open."""
    return unix_path.target(config.sockets / f"{service}.sock")
