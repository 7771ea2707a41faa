"""Exit policies: to which addresses and ports an exit connects.

A policy is a list of rules, one a line; the first that matches decides; what none matches is rejected; no
rules at all means "not an exit".

    accept *:80                         any address, one port
    accept *:8000-8999                  a range
    reject 10.0.0.0/8:*                 a network (CIDR), any port
    accept [2001:db8::]/32:443          IPv6 stands in brackets
    reject private:*                    every address that is not of the public Internet (public_address.py)
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

from phantomband.core.errors import Malformed, UserError
from phantomband.core.netdir.address import IPAddress, parse_ip
from phantomband.core.netdir.public_address import NOT_PUBLIC, IPNetwork, dialled, is_public

MAX_POLICY_BYTES = 1024
"""Of the canonical text: it stands in each descriptor and view."""

ANY = "*"
PRIVATE = "private"

PRIVATE_NETWORKS = NOT_PUBLIC
"""What `private` in a rule means."""

_RULE = re.compile(r"(accept|reject) (?:\[([^\]]*)\](/\d{1,3})?|([^\s:]+)):(\*|\d{1,5}(?:-\d{1,5})?)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Rule:
    """One line. `networks` is None for any address; `target` is its canonical text."""

    accept: bool
    target: str
    networks: tuple[IPNetwork, ...] | None
    low: int
    high: int

    @classmethod
    def parse(cls, line: str) -> Self:
        """From one line.

        Raises:
            ValueError: it is not a rule; says why.
        """
        match = _RULE.fullmatch(" ".join(line.split()))
        if match is None:
            raise ValueError("write 'accept' or 'reject', then address:ports, for example 'accept *:443'")
        verb, six, prefix, four, ports = match.groups()
        target, networks = _parse_target(f"{six}{prefix or ''}" if six is not None else four, six is not None)
        low, high = _parse_ports(ports)
        return cls(verb == "accept", target, networks, low, high)

    def matches(self, ip: IPAddress, port: int) -> bool:
        if not self.low <= port <= self.high:
            return False
        return self.networks is None or any(ip.version == net.version and ip in net for net in self.networks)

    def text(self) -> str:
        ports = "*" if (self.low, self.high) == (1, 65535) else f"{self.low}-{self.high}"
        ports = str(self.low) if self.low == self.high else ports
        return f"{'accept' if self.accept else 'reject'} {self.target}:{ports}"


@dataclass(frozen=True, slots=True)
class ExitPolicy:
    """Rules in order; the first match decides."""

    rules: tuple[Rule, ...] = ()

    @classmethod
    def parse(cls, lines: Iterable[str]) -> Self:
        """From lines as a person writes them; empty ones and `#` comments are left out.

        Raises:
            UserError: a line is not a rule, or all together are too long.
        """
        rules: list[Rule] = []
        for line in lines:
            text = line.partition("#")[0].strip()
            if text:
                rules.append(_parse_line(text))
        policy = cls(tuple(rules))
        if len(policy.text()) > MAX_POLICY_BYTES:
            raise UserError(f"The exit policy is over {MAX_POLICY_BYTES} bytes. Merge rules with wider ranges.")
        return policy

    @classmethod
    def decode_untrusted(cls, text: str) -> Self:
        """From the canonical text and no other.

        Raises:
            Malformed: it is anything else.
        """
        try:
            policy = cls(tuple(Rule.parse(line) for line in text.split("\n")) if text else ())
        except ValueError as e:
            raise Malformed(f"exit policy: {e}") from e
        if len(text) > MAX_POLICY_BYTES or policy.text() != text:
            raise Malformed("exit policy is too long or not canonical")
        return policy

    def text(self) -> str:
        """Canonical text: rules joined by line feeds; empty when this is not an exit."""
        return "\n".join(rule.text() for rule in self.rules)

    @property
    def is_exit(self) -> bool:
        return any(rule.accept for rule in self.rules)

    def allows(self, address: str | IPAddress, port: int) -> bool:
        """Whether a connection to this address is allowed. IPv4 inside IPv6 (::ffff:0:0/96) is judged as
        IPv4."""
        try:
            ip = parse_ip(address) if isinstance(address, str) else address
        except ValueError:
            return False
        ip = dialled(ip)
        return next((rule.accept for rule in self.rules if rule.matches(ip, port)), False)

    def might_allow_port(self, port: int) -> bool:
        """Whether some address could be allowed: for a client that has a name and must not resolve it."""
        for rule in self.rules:
            if rule.low <= port <= rule.high:
                if rule.accept:
                    return True
                if rule.networks is None:
                    return False
        return False


@lru_cache(maxsize=1024)
def cached_policy(text: str) -> ExitPolicy:
    """`ExitPolicy.decode_untrusted`, remembered: a network has few different policies."""
    return ExitPolicy.decode_untrusted(text)


def is_private(address: IPAddress) -> bool:
    """Whether an address is outside the public Internet, as `private` in a rule means it."""
    return not is_public(address)


def _parse_line(text: str) -> Rule:
    try:
        return Rule.parse(text)
    except ValueError as e:
        raise UserError(f"Exit policy rule '{text}': {e}.") from e


def _parse_target(text: str, bracketed: bool) -> tuple[str, tuple[IPNetwork, ...] | None]:
    if not bracketed and text == ANY:
        return ANY, None
    if not bracketed and text == PRIVATE:
        return PRIVATE, PRIVATE_NETWORKS
    if "%" in text:
        raise ValueError("an address with a zone has no place in a policy")
    network = ipaddress.ip_network(text)
    if (network.version == 6) != bracketed:
        raise ValueError("IPv6 stands in brackets, IPv4 does not")
    if network.version == 4:
        return str(network) if network.prefixlen < 32 else str(network.network_address), (network,)
    if isinstance(network.network_address, ipaddress.IPv6Address) and network.network_address.ipv4_mapped:
        raise ValueError("write IPv4 as IPv4, not inside IPv6")
    suffix = f"/{network.prefixlen}" if network.prefixlen < 128 else ""
    return f"[{network.network_address}]{suffix}", (network,)


def _parse_ports(text: str) -> tuple[int, int]:
    if text == "*":
        return 1, 65535
    low, _, high = text.partition("-")
    first, last = int(low), int(high or low)
    if not 1 <= first <= last <= 65535:
        raise ValueError("ports go from 1 to 65535, the lower one first")
    return first, last
