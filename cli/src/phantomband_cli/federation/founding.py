"""A network's genesis file from its directories' cards; a new identity for a node that is there.

card = one directory as it stands in a genesis file (core/netdir/genesis_file.py), JSON
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.crypto.sign import IdentityKey
from phantomband.core.errors import Malformed, UserError
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.descriptor import sign_succession
from phantomband.core.netdir.epoch import EpochClock
from phantomband.core.netdir.genesis import DirectoryInfo, Genesis, Terms
from phantomband.core.netdir.genesis_file import directory_text, genesis_text, load_genesis, parse_directory
from phantomband.core.work.difficulty import FREE, DifficultyRule
from phantomband.core.work.equihash import BY_NAME
from phantomband.runtime.keystore import NODE_ID_FILE, write_whole
from phantomband.runtime.settings import NodeConfig
from phantomband_directory.store import SUCCESSION_FILE

from phantomband_cli.directory_card import IDENTITY_FILE, directory_card, identity_of


@dataclass(frozen=True, slots=True)
class Founding:
    """What a new network's genesis file says besides its directories."""

    name: str
    epoch_seconds: int
    startup_epochs: int
    startup_seconds: int
    min_relays: int
    work: str
    """Name of Equihash parameters, or `none`."""
    probation_epochs: int
    notice_epochs: int

    def terms(self) -> Terms:
        """Raises: UserError."""
        if self.work != "none" and self.work not in BY_NAME:
            raise UserError(f"--work {self.work}: unknown. Use one of: none, {', '.join(BY_NAME)}")
        work = BY_NAME.get(self.work)
        rule = FREE if work is None else DifficultyRule()
        return Terms(work, rule, self.probation_epochs, self.notice_epochs)


def card(config: NodeConfig, random: RandomSource) -> DirectoryInfo:
    """What others need to name this node in a genesis file or change: keys are made when there are none.

    Addresses that a program listens at are left out: what their clients need is known once it runs.

    Raises:
        UserError: the node's configuration does not say at which address others reach it.
    """
    gateway = config.gateway
    by_programs = {name for program in gateway.pluggable for name in program.transports}
    listen, advertise = (
        tuple(address for address in _addresses(key, texts) if address.transport not in by_programs)
        for key, texts in (("listen", gateway.listen), ("advertise", gateway.advertise))
    )
    if any(address.ip.is_unspecified for address in advertise or listen):
        raise UserError("Others cannot reach 0.0.0.0. Set gateway.advertise to the node's public addresses.")
    return directory_card(config.data_dir, config.nickname, listen, advertise, random)


def _addresses(key: str, texts: Sequence[str]) -> tuple[NodeAddress, ...]:
    try:
        return tuple(NodeAddress.parse(text) for text in texts)
    except (ValueError, Malformed) as e:
        raise UserError(f"gateway.{key}: {e}. Write transport://IP:port") from e


def save_card(info: DirectoryInfo, out: Path | None) -> None:
    """Into a file, or to standard output."""
    if out is None:
        print(directory_text(info), end="")
    else:
        write_whole(out, directory_text(info).encode("ascii"), 0o644)


def load_card(path: Path) -> DirectoryInfo:
    """Raises: UserError."""
    try:
        return parse_directory(path.read_bytes(), str(path))
    except OSError as e:
        raise UserError(f"{path}: cannot read: {e.strerror}. Check the path.") from e


def found(founding: Founding, cards: Sequence[Path], out: Path, now: float) -> Genesis:
    """Writes the genesis file of a new network.

    Raises:
        UserError: the file is there already, a card cannot be used, or the numbers cannot be.
    """
    if out.exists():
        raise UserError(f"{out}: exists already. A network has one genesis file; remove it only if nobody uses it.")
    clock = EpochClock(int(now), founding.startup_epochs, founding.startup_seconds, founding.epoch_seconds)
    directories = tuple(load_card(path) for path in cards)
    genesis = Genesis(founding.name, False, clock, founding.min_relays, directories, founding.terms())
    write_whole(out, genesis_text(genesis).encode("ascii"), 0o644)
    return genesis


def renew_identity(config: NodeConfig, random: RandomSource) -> tuple[str, str]:
    """A new identity for the node, with the old one's signature, so that it keeps its standing. The old key is kept
    beside it; a directory of the set needs a change of the set instead.

    Returns: old and new node id.

    Raises:
        UserError: there is no identity yet, or the node is a directory of the genesis file.
    """
    path = config.data_dir / IDENTITY_FILE
    if not path.exists():
        raise UserError(f"{path}: this node has no identity yet. It gets one when it first starts.")
    genesis, old = load_genesis(config.genesis), identity_of(config.data_dir, random)
    if genesis.index_of(old.node_id) is not None:
        raise UserError("This node certifies views. Change the set instead: phantomband directory propose --help")
    new = IdentityKey.generate(random)
    succession = sign_succession(old, genesis.network_id, new.node_id)
    write_whole(path.with_name("identity.previous.key"), old.private_bytes())
    write_whole(path.with_name(SUCCESSION_FILE), succession)
    write_whole(path, new.private_bytes())
    (config.sockets / NODE_ID_FILE).unlink(missing_ok=True)  # or the other services would begin as the old one
    return str(old.node_id), str(new.node_id)


SYSTEM_RANDOM: RandomSource = os.urandom
