"""`python -m phantomband_client --config client.toml`: the client, where clock and randomness enter."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from phantomband.core.errors import UserError
from phantomband.core.netdir.genesis_file import load_genesis
from phantomband.runtime.arguments import parse
from phantomband.runtime.log import configure
from phantomband.runtime.service import make_private, mistake, run_main, serve
from phantomband.runtime.settings import ClientConfig
from phantomband.transports.registry import make

from phantomband_client.service import ClientParts, ClientService


async def run(config: ClientConfig) -> None:
    """Runs one client until it is stopped."""
    log = configure("client", config.log.level, config.log.format)
    make_private(config.data_dir)
    genesis = load_genesis(config.genesis)
    parts = ClientParts(config, genesis, {config.transport: make(config.transport)}, os.urandom, time.time)
    log.info("starting", transport=config.transport, network=genesis.name)
    await serve(ClientService(parts), config.sockets / "client.sock")


def main(argv: Sequence[str] | None = None) -> None:
    try:
        config = parse("client", ClientConfig, argv)
    except UserError as e:
        mistake(e)
    run_main(run(config))


if __name__ == "__main__":
    main()
