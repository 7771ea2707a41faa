"""Which addresses are of the public Internet, and which networks an address counts under: one answer for all.

Exits (`private` in a policy), caps, path rules, rates by network and reachability ask here. Python's `is_global` and
`is_private` are not used: they differ from each other and from one version to the next.

An IPv4 address can be written inside an IPv6 one in several ways. `unwrapped` takes it out, so that one machine is one
address everywhere; but only the IPv4-mapped form is dialled as IPv4, the others are not public, whatever they hold.

Sources: IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890, 8190), IPv6 Global Unicast Assignments
(2000::/3 alone is assigned), RFC 1112 section 4 and RFC 5771 (multicast, 240.0.0.0/4).
"""

from __future__ import annotations

import ipaddress

from phantomband.core.netdir.address import IPAddress

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_SPECIAL_4 = """
    0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24
    192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24
    203.0.113.0/24 224.0.0.0/4 240.0.0.0/4 168.63.129.16/32
"""
# The last one is no special range by IANA: a cloud answers there with the secrets of its virtual machines.

_SPECIAL_6 = """
    ::/3 4000::/2 8000::/1
    2001::/23 2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20
"""
# First all but 2000::/3, then what is special in it: Teredo, ORCHID and benchmarks, documentation, 6to4, AS112.

NOT_PUBLIC: tuple[IPNetwork, ...] = tuple(ipaddress.ip_network(text) for text in f"{_SPECIAL_4} {_SPECIAL_6}".split())
"""Everything that is not of the public Internet; an address is looked up here after `dialled`."""

_BY_VERSION: dict[int, tuple[tuple[int, int], ...]] = {
    version: tuple(
        (int(network.network_address), int(network.netmask)) for network in NOT_PUBLIC if network.version == version
    )
    for version in (4, 6)
}

_LOW_32 = 2**32 - 1
_IN_LAST_BITS = frozenset(
    int(ipaddress.IPv6Address(text)) >> 32
    for text in ("::", "::ffff:0.0.0.0", "::ffff:0:0.0.0.0", "64:ff9b::", "64:ff9b:1::")
)
"""First 96 bits of the forms that hold an IPv4 address in their last 32: IPv4-compatible (RFC 4291, section 2.5.5.1),
IPv4-mapped (2.5.5.2), IPv4-translated (RFC 2765), NAT64 (RFC 6052; RFC 8215 with the /96 that is in use)."""

_TEREDO = int(ipaddress.IPv6Address("2001::")) >> 96
_6TO4 = 0x2002


def dialled(ip: IPAddress) -> IPAddress:
    """The address that a socket connects to: IPv4-mapped ones (::ffff:0:0/96) are IPv4."""
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return ip if mapped is None else mapped


def unwrapped(ip: IPAddress) -> IPAddress:
    """The IPv4 address that an IPv6 one holds, or the address itself."""
    if ip.version == 4:
        return ip
    value = int(ip)
    if value >> 32 in _IN_LAST_BITS and value > 1:  # :: and ::1 hold none
        return ipaddress.IPv4Address(value & _LOW_32)
    if value >> 112 == _6TO4:
        return ipaddress.IPv4Address((value >> 80) & _LOW_32)
    if value >> 96 == _TEREDO:
        return ipaddress.IPv4Address(~value & _LOW_32)  # the client's, every bit turned (RFC 4380, section 4)
    return ip


def is_public(ip: IPAddress) -> bool:
    """Whether a machine of the public Internet can have this address."""
    ip = dialled(ip)
    value = int(ip)
    return all(value & mask != network for network, mask in _BY_VERSION[ip.version])


def networks(ip: IPAddress) -> tuple[bytes, bytes, bytes]:
    """What an address counts under: itself, its /24 and its /16 (IPv6: /48 and /32), behind one byte for the family."""
    inside = unwrapped(ip)
    packed = bytes((inside.version,)) + inside.packed
    return (packed, packed[:4], packed[:3]) if inside.version == 4 else (packed, packed[:7], packed[:5])
