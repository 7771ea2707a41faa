"""`python -m phantomband_cli.ceremony`: first step of a container network: keys and genesis.

All services need a genesis file that names the directories' keys, and none may read another's keys: so this
runs once, before them and without a network, with the volumes of the directories and of their gateways,
and ends.

    KEYS/1/directory/identity.key    KEYS/1/gateway/link.key    ...    GENESIS

Where there is a genesis already, it is left as it is: a network that is started again is the same network.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.errors import Malformed, UserError
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.epoch import EpochClock
from phantomband.core.netdir.genesis import Genesis
from phantomband.core.netdir.genesis_file import genesis_text
from phantomband.runtime.keystore import write_whole

from phantomband_cli.directory_card import directory_card
from phantomband_cli.testnet.prepare import startup_seconds

EPOCH_SECONDS = 30

STARTUP_TIME = 180
"""Seconds of short epochs: containers may take that long to start."""


@dataclass(frozen=True, slots=True)
class Seat:
    """One directory of the network to be: `NICKNAME=ADDRESS,ADDRESS...`."""

    nickname: str
    addresses: tuple[NodeAddress, ...]

    @classmethod
    def parse(cls, text: str) -> Seat:
        """Raises: UserError."""
        nickname, equals, rest = text.partition("=")
        try:
            addresses = tuple(NodeAddress.parse(a) for a in rest.split(","))
        except (ValueError, Malformed) as e:
            raise UserError(f"{text}: {e}. Write NAME=transport://IP:port,...") from None
        if not (nickname and equals):
            raise UserError(f"{text}: there is no name. Write NAME=transport://IP:port,...")
        return cls(nickname, addresses)


def hold(keys: Path, genesis: Path, seats: Sequence[Seat], min_relays: int, now: float, random: RandomSource) -> bool:
    """Makes keys and genesis. Returns: False if there was a genesis already."""
    if genesis.exists():
        return False
    directories = tuple(
        directory_card(keys / str(i), seat.nickname, seat.addresses, (), random) for i, seat in enumerate(seats, 1)
    )
    length = startup_seconds(min_relays, len(seats))
    clock = EpochClock(int(now), STARTUP_TIME // length, length, EPOCH_SECONDS)
    text = genesis_text(Genesis("compose", True, clock, min_relays, directories))
    write_whole(genesis, text.encode("ascii"), 0o644)
    return True


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m phantomband_cli.ceremony",
        description="Makes the keys of the directories, and the genesis file",
    )
    parser.add_argument("--keys", type=Path, default=Path("/keys"), help="where the volumes are")
    parser.add_argument("--genesis", type=Path, default=Path("/genesis/genesis.json"), help="file to write")
    parser.add_argument("--min-relays", type=int, required=True, help="nodes that a view must have")
    parser.add_argument("seats", nargs="+", metavar="NAME=ADDRESS,...", help="the directories")
    chosen = parser.parse_args(argv)
    try:
        seats = [Seat.parse(text) for text in chosen.seats]
        new = hold(chosen.keys, chosen.genesis, seats, chosen.min_relays, time.time(), os.urandom)
    except UserError as e:
        raise SystemExit(f"error: {e}") from None
    print("a new network" if new else "the network of last time", file=sys.stderr)


if __name__ == "__main__":
    main()
