"""The settings of the client."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator

from phantomband.core.bridge_line import TRANSPORTS
from phantomband.core.profiles import ProfileName
from phantomband.runtime.settings.base import LogSection, PluggableProgram, Port, Section

STORED_BRIDGES = "bridges"
"""File of `phantomband bridge add`, in the client's data directory."""


class ClientConfig(Section):
    """The client."""

    genesis: Path | None = None
    """The genesis file of the network. Needed unless there are bridges."""
    bridges: tuple[str, ...] = ()
    """Bridge lines, besides those of `phantomband bridge add`: the client begins at these nodes and dials no others;
    the first that answers is used. They bring the genesis file too. Their transports take the place of transport."""
    data_dir: Path
    """The stored view and guards; made with mode 0700 if absent. One client uses it at a time."""
    run_dir: Path | None = None
    """The control socket; by default `run` in data_dir."""
    socks_host: str = "127.0.0.1"
    socks_port: Port = 9150
    http_host: str = "127.0.0.1"
    http_port: Port | None = None
    """Port of the HTTP CONNECT proxy; absent: none."""
    pluggable: tuple[PluggableProgram, ...] = ()
    """Programs that dial for transports: {transports = ["webtunnel"], program = "/usr/bin/lyrebird", arguments = []}.
    One for a transport that is built in takes its place."""
    transport: str = "auto"
    """How to reach the guard: a transport, or several with commas between them, first choice first; auto: tls, quic,
    websocket, obfs4, doh. The next is tried when one takes long, and what worked on this network is tried first."""
    upstream_proxy: str | None = Field(default=None, repr=False)
    """A proxy of yours through which every connection goes: http://[USER:PASSWORD@]IP:PORT (CONNECT), or socks5://.
    Without it there is no connection at all. Not for quic."""
    profile: ProfileName = "fast"
    """Protection of streams that do not choose another: fast, balanced or strong (docs/explanation/profiles.md)."""
    fast_port: Port | None = None
    """Port of a further SOCKS5 proxy whose streams have the profile fast; absent: none."""
    balanced_port: Port | None = None
    """The same for balanced."""
    strong_port: Port | None = None
    """The same for strong."""
    cover: bool = True
    """Whether dummies and loops go over circuits. Without, the guard can tell which cells of a link are dummies."""
    hops: int = Field(default=3, ge=1, le=8)
    """Relays of a circuit. Fewer than 3 only in test networks: elsewhere exits refuse their streams (END(POLICY))."""
    ready_circuits: int = Field(default=2, ge=0, le=16)
    """Circuits built ahead, so that nobody waits for one. With the profile strong all that it has room for are, unless
    this is 0: then its circuits follow what users do."""
    circuit_lifetime: float = Field(default=600.0, gt=0)
    """Seconds after its first stream until a circuit takes no new streams. A circuit of strong ends after half to all
    of this since it was built, used or not; while streams are open it goes on, and takes new ones for twice as long."""
    max_streams: int = Field(default=10_000, ge=1)
    """Connections of applications at once; one more is closed unanswered."""
    connect_timeout: float = Field(default=60.0, gt=0)
    """Seconds that an application waits at most for its stream."""
    log: LogSection = LogSection()

    @field_validator("transport")
    @classmethod
    def _transports_that_exist(cls, value: str, others: ValidationInfo) -> str:
        known = [*TRANSPORTS, *(name for one in others.data.get("pluggable", ()) for name in one.transports)]
        for name in value.split(","):
            if name.strip() not in known and value != "auto":
                raise ValueError(f"there is no transport {name.strip()!r}; there are auto, {', '.join(known)}")
        return value

    @field_validator("data_dir")
    @classmethod
    def _a_way_in(cls, value: Path, others: ValidationInfo) -> Path:
        given = others.data.get("genesis", Path()) is not None or others.data.get("bridges", ("",))
        if not given and not (value / STORED_BRIDGES).exists():
            raise ValueError(
                "holds no bridges, and neither genesis nor bridges is given: a client needs one of them to begin "
                "(phantomband bridge add LINE)"
            )
        return value

    @property
    def profile_ports(self) -> dict[ProfileName, int]:
        """Ports of the further SOCKS5 proxies."""
        ports: dict[ProfileName, int | None] = {
            "fast": self.fast_port, "balanced": self.balanced_port, "strong": self.strong_port
        }  # fmt: skip
        return {name: port for name, port in ports.items() if port is not None}

    @property
    def sockets(self) -> Path:
        return self.run_dir or self.data_dir / "run"
