"""`python -m phantomband_mixer --config node.toml`: the mixer of one node."""

from __future__ import annotations

import os
from collections.abc import Sequence

from phantomband.core.mixing.shuffle import Draw
from phantomband.runtime.arguments import target
from phantomband.runtime.directories import make_private
from phantomband.runtime.log import configure
from phantomband.runtime.memory_limit import held_bytes
from phantomband.runtime.service import run_service, serve
from phantomband.runtime.settings import NodeConfig

from phantomband_mixer.service import MixerService, most_cells, strategy


async def run(config: NodeConfig) -> None:
    """Runs the mixer until it is stopped."""
    log = configure("mixer", config.log.level, config.log.format)
    make_private(config.sockets)
    room = held_bytes(config.memory_mib * 1024 * 1024)
    section = config.mixer.model_copy(update={"max_cells": most_cells(config.mixer.max_cells, room)})
    mixing = strategy(section, os.urandom, Draw(os.urandom).uniform())
    log.info("starting", strategy=section.published, lane=config.lane.value)
    gateway, most = target(config, "gateway"), section.max_cells
    service = MixerService(config.sockets, gateway, config.lane, mixing, os.urandom, most)
    await serve(service, config.sockets / "mixer.sock")


def main(argv: Sequence[str] | None = None) -> None:
    run_service("mixer", NodeConfig, run, argv)


if __name__ == "__main__":
    main()
