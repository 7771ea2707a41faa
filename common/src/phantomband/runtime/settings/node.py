"""The settings of one node, whose services read one file."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from phantomband.runtime.lane.base import Driver
from phantomband.runtime.settings.base import LogSection, Section
from phantomband.runtime.settings.gateway import GatewaySection
from phantomband.runtime.settings.mixer import MixerSection


class RelaySection(Section):
    exit_policy: tuple[str, ...] = ()
    """Lines such as "accept *:443" or "reject 10.0.0.0/8:*"; empty: no exit (the default)."""
    exit_allow_private: bool = False
    """Lets exits reach private addresses. Refused unless the genesis file is a test network's."""
    max_exit_connections: int = Field(default=4096, ge=1)
    """Exit connections at once; one more is refused with END(RESOURCE)."""
    connect_timeout: float = Field(default=15.0, gt=0)
    """Seconds to connect to a target."""
    loop_seconds: float = Field(default=5.0, ge=0, le=3600)
    """Mean seconds between the relay's own loop cells, which are cover and measure other relays; 0: none."""
    bandwidth: int = Field(default=10_000_000, ge=1)
    """Bytes a second that the descriptor declares."""
    onion_key_epochs: int = Field(default=24, ge=1, le=10_000)
    """Regular epochs between two turns of the onion keys. With fewer than 24 a client that had no newer view for long
    may hold one whose keys are gone."""


class DirectorySection(Section):
    solver: tuple[str, ...] = ()
    """Program that makes stamps, with its first arguments; absent: the one that comes with phantomband."""


class NodeConfig(Section):
    """One node: its four services read the same file."""

    nickname: str = Field(default="unnamed", min_length=1, max_length=32, pattern=r"^[A-Za-z0-9_-]+$")
    genesis: Path
    """The genesis file of the network."""
    data_dir: Path
    """Keys and stored views; made with mode 0700 if absent."""
    run_dir: Path | None = None
    """Sockets of the services; by default `run` in data_dir."""
    bridge: bool = False
    """An unlisted bridge: the node hands its descriptor to nobody, dials others as a client does, and takes no part in
    table and gossip. Only who has its bridge line (phantomband bridge line) finds it."""
    lane: Driver = Driver.UNIX
    """How cells move between the services: unix or grpc."""
    memory_mib: int = Field(default=0, ge=0)
    """MiB that each service may take, where its control group sets no smaller limit. A third of it is for what peers
    make the service hold; over that the heaviest peer loses circuits or its link. 0: the control group's limit, or an
    eighth of the machine's memory where there is none."""
    gateway: GatewaySection = GatewaySection()
    relay: RelaySection = RelaySection()
    mixer: MixerSection = MixerSection()
    directory: DirectorySection = DirectorySection()
    log: LogSection = LogSection()

    @property
    def sockets(self) -> Path:
        """The directory of the services' sockets."""
        return self.run_dir or self.data_dir / "run"
