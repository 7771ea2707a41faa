"""What the parent process asks for, in environment variables (pt-spec, section 3.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from phantomband.core.errors import Malformed, UserError
from phantomband.transports.managed.arguments import NAME, split_options_untrusted
from phantomband.transports.managed.extended_port import read_cookie
from phantomband.transports.managed.messages import endpoint_untrusted
from phantomband.transports.tcp.proxy import Proxy

VERSIONS = ("1", "2.1", "2.2", "2")
"""Of the protocol, those that we speak, the best first: what differs in 2.x we take as well as 1's."""

MAX_TRANSPORTS = 32

BY_HAND = """\
error: `phantomband pt` is started by Tor, or by another program that speaks Tor's pluggable-transport protocol, and
not by hand. For a client put this into torrc, with the bridge line that you were given:

    UseBridges 1
    ClientTransportPlugin {names} exec {program} pt
    Bridge obfs4 192.0.2.1:443 FINGERPRINT cert=... iat-mode=0

and for a bridge this:

    BridgeRelay 1
    ORPort 127.0.0.1:auto
    ExtORPort auto
    ServerTransportPlugin obfs4 exec {program} pt
    ServerTransportListenAddr obfs4 0.0.0.0:443
"""


class Unusable(UserError):
    """The parent cannot be served. Args: keyword: VERSION-ERROR, ENV-ERROR or PROXY-ERROR."""

    def __init__(self, keyword: str, text: str) -> None:
        self.keyword = keyword
        super().__init__(text)


@dataclass(frozen=True, slots=True)
class Common:
    """What both roles are told."""

    version: str
    transports: tuple[str, ...]
    state: Path
    exit_on_stdin_close: bool


@dataclass(frozen=True, slots=True)
class ClientSetup:
    """A client: a SOCKS5 proxy for each transport."""

    common: Common
    proxy: Proxy | None = None
    """Which must be used."""


@dataclass(frozen=True, slots=True)
class ServerSetup:
    """A server in front of one port."""

    common: Common
    bind: Mapping[str, tuple[str, int]]
    options: Mapping[str, Mapping[str, str]]
    forward: tuple[str, int]
    """The port that clients are connected to."""
    cookie: bytes | None
    """Of the extended ORPort, 32 bytes; None: `forward` is a plain one."""


def asked(environment: Mapping[str, str]) -> bool:
    """Whether any program asks us for anything."""
    return any(name.startswith("TOR_PT_") for name in environment)


def read(environment: Mapping[str, str]) -> ClientSetup | ServerSetup:
    """Raises: Unusable."""
    version = _version(_need(environment, "TOR_PT_MANAGED_TRANSPORT_VER"))
    is_client = bool(environment.get("TOR_PT_CLIENT_TRANSPORTS"))
    is_server = bool(environment.get("TOR_PT_SERVER_TRANSPORTS"))
    if is_client == is_server:
        raise Unusable("ENV-ERROR", "one of TOR_PT_CLIENT_TRANSPORTS and TOR_PT_SERVER_TRANSPORTS must be set")
    state = Path(_need(environment, "TOR_PT_STATE_LOCATION"))
    if not state.is_absolute():
        raise Unusable("ENV-ERROR", "TOR_PT_STATE_LOCATION is not an absolute path")
    closing = environment.get("TOR_PT_EXIT_ON_STDIN_CLOSE", "0")
    if closing not in ("", "0", "1"):
        raise Unusable("ENV-ERROR", "TOR_PT_EXIT_ON_STDIN_CLOSE is 0 or 1")
    role = "CLIENT" if is_client else "SERVER"
    common = Common(version, _transports(environment[f"TOR_PT_{role}_TRANSPORTS"]), state, closing == "1")
    return _client(common, environment) if is_client else _server(common, environment)


def _need(environment: Mapping[str, str], name: str) -> str:
    if not environment.get(name):
        raise Unusable("ENV-ERROR", f"{name} is not set")
    return environment[name]


def _version(offered: str) -> str:
    versions = offered.split(",")
    for version in VERSIONS:
        if version in versions:
            return version
    raise Unusable("VERSION-ERROR", "no-version")


def _transports(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(text.split(",")))
    if len(names) > MAX_TRANSPORTS or not all(NAME.fullmatch(name) for name in names):
        raise Unusable("ENV-ERROR", "the list of transports has a name that is none, or too many")
    return names


def _client(common: Common, environment: Mapping[str, str]) -> ClientSetup:
    proxy = environment.get("TOR_PT_PROXY", "")
    return ClientSetup(common, _proxy(proxy) if proxy else None)


def _proxy(uri: str) -> Proxy:
    try:
        return Proxy.parse(uri)
    except UserError as e:
        raise Unusable("PROXY-ERROR", str(e).replace("upstream_proxy", "TOR_PT_PROXY")) from None


def _server(common: Common, environment: Mapping[str, str]) -> ServerSetup:
    bind: dict[str, tuple[str, int]] = {}
    for pair in filter(None, environment.get("TOR_PT_SERVER_BINDADDR", "").split(",")):
        name, _, where = pair.partition("-")
        if name in bind:
            raise Unusable("ENV-ERROR", "TOR_PT_SERVER_BINDADDR names a transport twice")
        bind[name] = _endpoint("TOR_PT_SERVER_BINDADDR", where)
    try:
        options = split_options_untrusted(environment.get("TOR_PT_SERVER_TRANSPORT_OPTIONS", ""))
    except Malformed as e:
        raise Unusable("ENV-ERROR", f"TOR_PT_SERVER_TRANSPORT_OPTIONS: {e}") from None
    extended = environment.get("TOR_PT_EXTENDED_SERVER_PORT", "")
    if not extended:
        plain = _need(environment, "TOR_PT_ORPORT")
        return ServerSetup(common, bind, options, _endpoint("TOR_PT_ORPORT", plain), None)
    try:
        cookie = read_cookie(Path(_need(environment, "TOR_PT_AUTH_COOKIE_FILE")))
    except Unusable:
        raise
    except UserError as e:
        raise Unusable("ENV-ERROR", f"TOR_PT_AUTH_COOKIE_FILE: {e}") from None
    return ServerSetup(common, bind, options, _endpoint("TOR_PT_EXTENDED_SERVER_PORT", extended), cookie)


def _endpoint(name: str, text: str) -> tuple[str, int]:
    try:
        return endpoint_untrusted(text)
    except Malformed:
        raise Unusable("ENV-ERROR", f"{name} has no IP:PORT where one belongs") from None
