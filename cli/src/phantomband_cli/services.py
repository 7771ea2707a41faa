"""The services as programs to fork: imported once, before the forks, and started by their own `main`."""

from __future__ import annotations

import gc
import importlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from phantomband_cli.supervisor import Program

NODE_SERVICES = ("directory", "gateway", "relay", "mixer")
"""In the order in which they are started: the directory first, because the others wait for the node's id."""


def warm_up(names: Sequence[str]) -> None:
    """Imports what the services need, and keeps the collector from touching (and so copying) its pages.

    gRPC is imported and not used before the forks, so its own fork handlers are not wanted.
    """
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    for name in names:
        importlib.import_module(f"phantomband_{name}.__main__")
    for module in ("uvloop", "aioquic.asyncio", "phantomband.transports.registry"):
        _import_if_there(module)
    gc.collect()
    gc.freeze()


def _import_if_there(module: str) -> None:
    try:
        importlib.import_module(module)
    except ImportError:
        pass


def program(service: str, name: str, arguments: Sequence[str], log: Path | None) -> Program:
    """`python -m phantomband_SERVICE arguments`, without starting a new interpreter."""
    return Program(name, _main_of(service, arguments), log)


def _main_of(service: str, arguments: Sequence[str]) -> Callable[[], None]:
    def run() -> None:
        importlib.import_module(f"phantomband_{service}.__main__").main(list(arguments))

    return run
