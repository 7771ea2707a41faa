"""Parameters of `doh` addresses: what a node is told, what it publishes, what a client needs.

| name | who | meaning |
|---|---|---|
| `token` | published | 32 bytes, base64url without padding: opens sessions |
| `sni` | published | name in the node's certificate; `via=doh`: the resolver's name |
| `path` | option, published | of queries; absent: /dns-query |
| `zone` | option, published | domain whose name server the node is |
| `dns` | option | IP:PORT where that name server listens, UDP and TCP |
| `ns` | option | name of that name server; absent: ns.ZONE |
| `certificate`, `key` | option | PEM files; absent: a self-signed one for a made-up name. `sni` is then its name |
| `upstream` | option | IP or IP:PORT of the resolver for ordinary queries |
| `via` | client | the address is a resolver's: `doh`, `udp` or `tcp` |
| `method` | client | `post` or `get` |
| `rr` | client | type of answers through a resolver: `txt` or `null` |
| `size` | client | bytes of an answer through a resolver: 512 to 65,535; absent: 1,232 |
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

from phantomband.core.errors import Malformed, UserError
from phantomband.transports.doh import message
from phantomband.transports.doh.packet import TOKEN_BYTES

DEFAULT_PATH = "/dns-query"
DNS_PORT = 53
MAX_PATH = 200
FORM = "Write doh://IP:PORT?upstream=IP, or doh://IP:PORT?zone=t.example.net&dns=IP:53"
OPTIONS = ("certificate", "dns", "key", "ns", "path", "sni", "token", "upstream", "zone")
KINDS = {"txt": message.TXT, "null": message.NULL}


def token_text(token: bytes) -> str:
    return base64.urlsafe_b64encode(token).rstrip(b"=").decode()


def token_untrusted(text: str) -> bytes:
    """Raises: Malformed: it is none."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise Malformed("a doh token is base64") from None
    if len(raw) != TOKEN_BYTES:
        raise Malformed(f"a doh token has {TOKEN_BYTES} bytes, not {len(raw)}")
    return raw


@dataclass(frozen=True, slots=True)
class Target:
    """What a client needs of an address."""

    token: bytes
    name: str
    """For SNI and :authority; empty: none was published."""
    path: str
    zone: list[bytes]
    via: str
    """Empty: the address is the node's own."""
    get: bool
    kind: int
    size: int

    @classmethod
    def parse_untrusted(cls, parameters: Mapping[str, str]) -> Target:
        """Raises: Malformed: a parameter is missing or wrong."""
        if "token" not in parameters:
            raise Malformed("the address has no doh token (token=)")
        via, zone = parameters.get("via", ""), parameters.get("zone", "")
        if via not in ("", "doh", "udp", "tcp"):
            raise Malformed("via must be doh, udp or tcp")
        if via and not zone:
            raise Malformed("via= needs the zone of the node (zone=)")
        method, kind = parameters.get("method", "post"), parameters.get("rr", "txt")
        if method not in ("post", "get"):
            raise Malformed("method must be post or get")
        if kind not in KINDS:
            raise Malformed("rr must be txt or null")
        size = parameters.get("size", str(message.UDP_SIZE))
        if not size.isascii() or not size.isdigit() or not 512 <= int(size) <= message.MAX_MESSAGE:
            raise Malformed("size must be 512 to 65535")
        try:
            labels = message.parse_domain(zone) if zone else []
            name = parameters.get("sni", "")
            if name:
                message.parse_domain(name)
        except ValueError:
            raise Malformed("zone and sni must be domain names") from None
        path = _path(parameters.get("path", DEFAULT_PATH))
        return cls(
            token_untrusted(parameters["token"]), name, path, labels, via, method == "get", KINDS[kind], int(size)
        )


@dataclass(frozen=True, slots=True)
class Options:
    """What a node is told."""

    path: str
    zone: str
    """Empty: the node is no name server."""
    ns: str
    dns: tuple[str, int] | None
    upstream: tuple[str, int] | None
    files: tuple[str, str] | None
    """Certificate and key."""
    name: str
    """In that certificate."""

    @classmethod
    def parse(cls, options: Mapping[str, str]) -> Options:
        """Raises: UserError: an option is unknown or wrong."""
        unknown = sorted(set(options) - set(OPTIONS))
        if unknown:
            raise UserError(f"doh has no parameter {unknown[0]!r}. {FORM}")
        zone, dns = options.get("zone", ""), options.get("dns", "")
        if bool(zone) != bool(dns):
            raise UserError(f"doh: zone= and dns= go together. {FORM}")
        try:
            if zone:
                message.parse_domain(zone)
            ns = options.get("ns", f"ns.{zone}")
            if zone:
                message.parse_domain(ns)
            path = _path(options.get("path", DEFAULT_PATH))
        except (ValueError, Malformed) as e:
            raise UserError(f"doh: zone, ns or path cannot be used: {e}. {FORM}") from None
        upstream = options.get("upstream", "")
        files, name = (options.get("certificate", ""), options.get("key", "")), options.get("sni", "")
        if len({bool(f) for f in files}) > 1 or bool(files[0]) != bool(name):
            raise UserError(f"doh: certificate=, key= and sni= (its name) go together. {FORM}")
        place = _place("dns", dns) if dns else None
        forward = _place("upstream", upstream) if upstream else None
        return cls(path, zone, ns, place, forward, files if name else None, name)


def _path(text: str) -> str:
    if not text.startswith("/") or len(text) > MAX_PATH or not text.isascii() or set(text) & set(" ?#\r\n\t"):
        raise Malformed("path must begin with / and have no blanks, ? or #")
    return text


def _place(key: str, text: str) -> tuple[str, int]:
    """IP, IP:PORT or [IP]:PORT."""
    host, port = text, str(DNS_PORT)
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":") or port
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        ip = str(ipaddress.ip_address(host))
        if not port.isdigit() or not 0 <= int(port) < 65536:
            raise ValueError
    except ValueError:
        raise UserError(f"doh: {key} must be IP or IP:PORT, never a name. {FORM}") from None
    return ip, int(port)
