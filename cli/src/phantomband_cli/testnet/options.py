"""What a test network is made of, as asked for on the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from phantomband.core.bridge_line import TRANSPORTS
from phantomband.core.errors import UserError
from phantomband.core.profiles import PROFILE_NAMES
from phantomband.core.work.equihash import BY_NAME
from phantomband.runtime.settings import MIX_NAMES, PADDING_NAMES

HOPS = 3
MAX_NODES = 200
DEFAULT_DIRECTORIES = 4
"""The fewest of which one may fail: q = floor(2n/3)+1 = 3."""


@dataclass(frozen=True, slots=True)
class Options:
    """Options of `testnet up`.

    Raises:
        UserError: they cannot work together.
    """

    nodes: int = 6
    mix: str = "none"
    lane: str = "unix"
    transport: str = "tls"
    socks_port: int = 9150
    http_port: int | None = None
    exits: int = 0
    """0: the last half."""
    directories: int = 0
    """0: four, or all nodes if there are fewer."""
    padding: str = "off"
    profile: str = "fast"
    """The client's. With another than fast, nodes that were not told otherwise mix `timed` and pad `adaptive`."""

    epoch_seconds: int = 30
    """Length of an epoch after the first twenty of a second each; 1: all are so short."""
    work: str = "none"
    """What newcomers pay: parameters of Equihash, by name."""
    probation: int = 0
    """Epochs in which newcomers are neither guard nor exit."""

    def __post_init__(self) -> None:
        _one_of("--work", self.work, ("none", *BY_NAME))
        _between("--epoch-seconds", self.epoch_seconds, 1, 3600, "an hour is what public networks have")
        _between("--probation", self.probation, 0, 65535, "that many epochs")
        _one_of("--mix", self.mix, MIX_NAMES)
        _one_of("--padding", self.padding, PADDING_NAMES)
        _one_of("--profile", self.profile, PROFILE_NAMES)
        if self.profile != "fast":
            object.__setattr__(self, "mix", "timed" if self.mix == "none" else self.mix)
            object.__setattr__(self, "padding", "adaptive" if self.padding == "off" else self.padding)
        _one_of("--lane", self.lane, ("unix", "grpc"))
        _one_of("--transport", self.transport, ("auto", *TRANSPORTS))
        _between("--nodes", self.nodes, HOPS, MAX_NODES, f"a path has {HOPS} different nodes")
        object.__setattr__(self, "exits", self.exits or self.nodes // 2)
        object.__setattr__(self, "directories", self.directories or min(DEFAULT_DIRECTORIES, self.nodes))
        _between("--exits", self.exits, 1, self.nodes, "every network needs one, each is a node")
        _between("--directories", self.directories, 1, min(32, self.nodes), "each is a node")
        _between("--socks-port", self.socks_port, 0, 65535, "0 picks a free one")
        _between("--http-port", self.http_port or 0, 0, 65535, "0 picks a free one")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"n{i + 1}" for i in range(self.nodes))

    def is_exit(self, index: int) -> bool:
        """The last ones are exits."""
        return index >= self.nodes - self.exits

    def is_directory(self, index: int) -> bool:
        """The first ones are directories."""
        return index < self.directories

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Options:
        return cls(**data)


def _one_of(flag: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UserError(f"{flag} {value}: unknown. Use one of: {', '.join(known)}")


def _between(flag: str, value: int, low: int, high: int, why: str) -> None:
    if not low <= value <= high:
        raise UserError(f"{flag} {value}: must be {low} to {high}: {why}")
