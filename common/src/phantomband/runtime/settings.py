"""Configuration: a TOML file, then the environment, then flags, each stronger than the one before.

Environment: `PHANTOMBAND_` and the key in capitals, sections joined by two underscores:
`PHANTOMBAND_MIXER__STRATEGY=timed`. Flags: `--set mixer.strategy=timed`. Values are read as TOML where they can be,
else as text. Unknown keys are errors.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from phantomband.core.bridge_line import TRANSPORTS
from phantomband.core.errors import ConfigError, UserError
from phantomband.core.mixing import published
from phantomband.core.profiles import ProfileName
from phantomband.core.shaping import LADDER, MAX_RATE, OFF, Mode, Policy, Schedule, Shape
from phantomband.runtime.lane.base import Driver

PREFIX = "PHANTOMBAND_"

_PARAMETER = re.compile(r"(?<=[?&])[a-z0-9_-]+(?==)")
"""The name of a parameter in an address."""

Port = Annotated[int, Field(ge=0, le=65535)]

PaddingName = Literal["off", "adaptive", "constant"]
PADDING_NAMES: tuple[str, ...] = get_args(PaddingName)
"""Every way to pad links."""

DEFAULT_RATES = {"adaptive": MAX_RATE, "constant": 128}
"""Cells a second where `padding_rate` is 0."""

MixName = Literal["none", "threshold", "timed", "pool", "poisson", "slots"]
MIX_NAMES: tuple[str, ...] = get_args(MixName)
"""Every mixing strategy."""


class Section(BaseModel):
    """Every section is frozen, and refuses keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)


class LogSection(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe message that is written; none ever has addresses, targets, keys or payload."""
    format: Literal["text", "json"] = "text"


class PluggableProgram(Section):
    """A program that speaks Tor's pluggable-transport protocol."""

    transports: tuple[str, ...]
    program: str
    arguments: tuple[str, ...] = ()


class GatewaySection(Section):
    listen: tuple[str, ...] = ("tcp://0.0.0.0:9001",)
    """Where to listen: transport://host:port for tcp, tls, quic, websocket, obfs4, doh; obfs4 with ?iat-mode=0, 1 or 2
    behind it; tls and websocket with ?site=FOLDER and others (docs/how-to/run-a-bridge-behind-nginx.md); doh with
    ?upstream=IP, zone=NAME, dns=IP:53, ns=NAME, path=/PATH, or certificate=FILE, key=FILE and sni=NAME
    (docs/how-to/reach-a-bridge-by-dns.md)."""
    advertise: tuple[str, ...] = ()
    """What the descriptor says instead, entry by entry, when others reach us elsewhere (NAT, containers, a reverse
    proxy). Parameters behind an entry take the place of the transport's own of the same name."""
    pluggable: tuple[PluggableProgram, ...] = ()
    """Programs that listen for transports: {transports = ["webtunnel"], program = "/usr/bin/lyrebird", arguments = []}.
    Their addresses stand in listen; one for a transport that is built in takes its place."""
    max_links: int = Field(default=4096, ge=1)
    """Incoming links at once; one more connection is closed unanswered."""
    max_pending: int = Field(default=256, ge=1)
    """Connections without a finished handshake at once; one more is closed unanswered."""
    padding: PaddingName = "off"
    """How links are paced and padded: off; adaptive, slots at a rate that follows the load on a ladder, while a link
    carries circuits; constant, slots at one rate always. All links are at least so, and nodes that we dial are asked
    for the same. What each hides and costs: docs/explanation/padding.md."""
    padding_rate: int = Field(default=0, ge=0, le=MAX_RATE)
    """Cells a second of each link and direction; constant: the rate; adaptive: the highest, one of 8, 32, 128, 512,
    2048, 8192, 32768. 0: 128 for constant, which is 23 GB a day, and 32768 for adaptive."""
    padding_schedule: Literal["fixed", "poisson"] = "fixed"
    """Slots at equal distances, or at exponential ones of the same mean."""
    padding_max_rate: int = Field(default=512, ge=0, le=MAX_RATE)
    """Cells a second at which a dialer, such as a client, may ask us to pad its link; more only in the mode of padding,
    up to padding_rate. 0: links are padded as padding says, whatever is asked."""

    @field_validator("listen", "advertise")
    @classmethod
    def _without_hyphens(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """Names of parameters have none in addresses; obfs4's `iat-mode` is written with one everywhere else."""
        return tuple(_PARAMETER.sub(lambda m: m[0].replace("-", "_"), a) for a in value)

    @field_validator("padding_rate")
    @classmethod
    def _of_the_ladder(cls, value: int, others: ValidationInfo) -> int:
        if value and others.data.get("padding") == "adaptive" and value not in LADDER:
            raise ValueError(f"must be one of {', '.join(map(str, LADDER))}, or 0, when padding is adaptive")
        return value

    @property
    def shape(self) -> Shape:
        """What links are padded as, and the descriptor says."""
        if self.padding == "off":
            return OFF
        rate = self.padding_rate or DEFAULT_RATES[self.padding]
        return Shape(Mode[self.padding.upper()], Schedule[self.padding_schedule.upper()], rate)

    @property
    def pacing(self) -> Policy:
        """The gateway's part of it."""
        return Policy(self.shape, self.padding_max_rate)


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


class MixerSection(Section):
    strategy: MixName = "none"
    interval: float = Field(default=0.02, ge=0.001, le=60)
    """Seconds between releases of the timed and pool strategies."""
    threshold: int = Field(default=64, ge=2)
    """Cells of a batch of the threshold strategy; less than max_cells."""
    pool_minimum: int = Field(default=32, ge=0)
    """Cells that the pool strategy keeps at each release, while they may wait; less than max_cells."""
    pool_fraction: float = Field(default=0.5, gt=0, le=1)
    """Share of the cells above pool_minimum that the pool strategy lets go at each release."""
    max_wait: float = Field(default=0.2, gt=0, le=60)
    """Seconds that the threshold and pool strategies hold a cell at most, so that low load stalls nothing."""
    mean_delay: float = Field(default=0.05, gt=0, le=60)
    """Seconds that the poisson strategy holds a cell on average; those behind a slow one of their circuit longer."""
    slot: float = Field(default=0.02, ge=0.001, le=60)
    """Seconds between two cells of one circuit with the slots strategy, which is also a limit of its rate."""
    slot_dummies: int = Field(default=256, ge=0, le=65_536)
    """Circuits whose empty slots the slots strategy fills with dummies for the link, a direction of a circuit counting
    as one; those that were silent longest get none. Each costs 100 KB a second with slots of 20 ms. A link that has
    cells waiting drops them. 0: no dummies."""
    max_cells: int = Field(default=65_536, ge=256, validate_default=True)
    """Cells held at once, 128 MiB; half as many again may wait for a gateway that is held up. Over it the circuits with
    the longest queues are dropped, until an eighth is free."""

    @field_validator("max_cells")
    @classmethod
    def _above_batches(cls, value: int, others: ValidationInfo) -> int:
        for key in ("threshold", "pool_minimum"):
            if value <= others.data.get(key, 0):
                raise ValueError(f"must be more than {key}, which is {others.data[key]}")
        return value

    @property
    def published(self) -> str:
        """What the node's descriptor says: the strategy, then its parameters (docs/reference/wire-format.md)."""
        return published.text(
            self.strategy, {name: getattr(self, name) for name in published.PARAMETERS[self.strategy]}
        )


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
    gateway: GatewaySection = GatewaySection()
    relay: RelaySection = RelaySection()
    mixer: MixerSection = MixerSection()
    directory: DirectorySection = DirectorySection()
    log: LogSection = LogSection()

    @property
    def sockets(self) -> Path:
        """The directory of the services' sockets."""
        return self.run_dir or self.data_dir / "run"


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
    """The stored view and guards; made with mode 0700 if absent."""
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
    ready_circuits: int = Field(default=2, ge=0, le=16)
    """Circuits built ahead, so that nobody waits for one."""
    circuit_lifetime: float = Field(default=600.0, gt=0)
    """Seconds after its first stream until a circuit takes no new streams."""
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


C = TypeVar("C", NodeConfig, ClientConfig)


def load(
    kind: type[C], file: Path | None, environment: Mapping[str, str] | None = None, flags: Sequence[str] = ()
) -> C:
    """The configuration from all three sources.

    Args: flags: `key=value` with dotted keys.

    Raises:
        ConfigError: names source, key, value and remedy of the first value that cannot be used.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for source, key, value in _all(kind, file, os.environ if environment is None else environment, flags):
        _put(values, key, value)
        sources[key] = source
    try:
        return kind.model_validate(values)
    except ValidationError as e:
        raise _explain(kind, e, sources, str(file) if file else "configuration") from None


def _all(
    kind: type[BaseModel], file: Path | None, environment: Mapping[str, str], flags: Sequence[str]
) -> Iterator[tuple[str, str, Any]]:
    if file is not None:
        yield from ((str(file), key, value) for key, value in _flatten(_read(file)))
    for name, raw in sorted(environment.items()):
        if name.startswith(PREFIX) and _known(kind, key := name[len(PREFIX) :].lower().replace("__", ".")):
            yield f"environment {name}", key, _value(raw)
    for flag in flags:
        key, equals, raw = flag.partition("=")
        if not equals:
            raise ConfigError("--set", flag, "", "there is no value", "Write it as --set key=value")
        yield "--set", key.strip(), _value(raw)


def _read(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as f:
            return tomllib.load(f)
    except OSError as e:
        raise UserError(f"{file}: cannot be read ({e.strerror}). Give a file that exists with --config") from None
    except tomllib.TOMLDecodeError as e:
        raise UserError(f"{file}: is not TOML: {e}. Mend that line") from None
    except UnicodeDecodeError as e:
        raise UserError(f"{file}: is not UTF-8 at byte {e.start}. Save it as UTF-8 text") from None


def _flatten(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict) and value:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _known(kind: type[BaseModel], key: str) -> bool:
    """Whether the environment means us: other programs' variables may share the prefix."""
    return key.split(".")[0] in kind.model_fields


def _value(raw: str) -> Any:
    try:
        return tomllib.loads(f"x = {raw}")["x"]
    except tomllib.TOMLDecodeError:
        return raw


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ConfigError("configuration", key, "", f"{parent} is a value, not a section", "Give it once")
    values[last] = value


def _explain(kind: type[BaseModel], error: ValidationError, sources: Mapping[str, str], default: str) -> ConfigError:
    first = error.errors()[0]
    path = [str(p) for p in first["loc"]]
    key = ".".join(path)
    source = next((sources[k] for k in (key, ".".join(path[:-1])) if k in sources), default)
    if first["type"] == "extra_forbidden":
        return ConfigError(source, key, repr(first["input"]), "this key is unknown", _suggest(kind, path))
    if first["type"] == "missing":
        return ConfigError(source, key, "(absent)", "this key is needed", f'Add a line {path[-1]} = "..."')
    return ConfigError(source, key, repr(first["input"]), first["msg"], "Use such a value, or remove the line")


def _suggest(kind: type[BaseModel], path: Sequence[str]) -> str:
    names = list(_section(kind, path[:-1]).model_fields)
    near = difflib.get_close_matches(path[-1], names, n=1)
    return f"Did you mean {near[0]}?" if near else f"Known here: {', '.join(sorted(names))}"


def _section(kind: type[BaseModel], path: Sequence[str]) -> type[BaseModel]:
    for name in path:
        if name.isdigit():
            continue
        inner = kind.model_fields[name].annotation
        inner = next((a for a in get_args(inner) if isinstance(a, type) and issubclass(a, BaseModel)), inner)
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            kind = inner
    return kind
