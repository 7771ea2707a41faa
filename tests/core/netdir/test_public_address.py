"""One predicate for public addresses, and one form of an address for everything that counts addresses."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from phantomband.core.dht.contact import far_prefix, near_prefix
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.admission import PrefixRates, RateRule
from phantomband.core.netdir.caps import CapCounter, CapRule
from phantomband.core.netdir.exit_policy import ExitPolicy, is_private
from phantomband.core.netdir.path import conflict
from phantomband.core.netdir.public_address import is_public, networks, unwrapped

PUBLIC = (
    "8.8.8.8", "1.1.1.1", "203.0.112.255", "172.15.255.255", "172.32.0.0", "100.63.255.255", "100.128.0.0", "192.0.1.1",
    "223.255.255.255", "168.63.129.15", "2001:4860:4860::8888", "2400::1", "2001:200::1", "2a00::1", "3ffe::1",
    "::ffff:8.8.8.8",
)  # fmt: skip

NOT_PUBLIC = (
    "0.0.0.0", "10.1.2.3", "100.64.1.1", "100.100.100.200", "127.0.0.1", "169.254.169.254", "172.16.0.1", "192.0.0.9",
    "192.0.0.192", "192.0.2.1", "192.31.196.1", "192.52.193.1", "192.88.99.1", "192.168.1.1", "192.175.48.1",
    "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "168.63.129.16",
    "::", "::1", "::127.0.0.1", "::8.8.8.8", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:0:127.0.0.1",
    "::ffff:0:8.8.8.8", "64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::7f00:1", "100::1", "100:0:0:1::1",
    "2001::1", "2001:0:7f00:1::", "2001:10::1", "2001:20::1", "2001:2::1", "2001:db8::1", "2001:db8::5efe:10.0.0.1",
    "2002:7f00:1::", "2002:808:808::", "2620:4f:8000::1", "3fff::1", "4000::1", "5f00::1", "fc00::1", "fd00:ec2::254",
    "fe80::1", "fec0::1", "ff02::1", "200::1",
)  # fmt: skip

SAME = (
    "::ffff:20.1.1.1", "::20.1.1.1", "::ffff:0:20.1.1.1", "2002:1401:101::1", "64:ff9b::1401:101",
    "64:ff9b:1::1401:101", "2001:0:4136:e378:8000:63bf:ebfe:fefe",
)  # fmt: skip
"""20.1.1.1, in every way that IPv6 can hold it (the last one is Teredo, RFC 4380 section 4)."""


@pytest.mark.parametrize("text", PUBLIC)
def test_an_address_of_the_public_internet(text: str) -> None:
    assert is_public(ip_address(text))
    assert not is_private(ip_address(text))
    assert ExitPolicy.parse(["reject private:*", "accept *:*"]).allows(text, 80)


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_an_address_that_is_not_of_the_public_internet(text: str) -> None:
    assert not is_public(ip_address(text))
    assert is_private(ip_address(text))
    assert not ExitPolicy.parse(["reject private:*", "accept *:*"]).allows(text, 80)


@pytest.mark.parametrize("text", SAME)
def test_an_ipv4_address_is_one_address_in_whatever_form(text: str, world: object) -> None:
    host, plain = str(ip_address(text)), ip_address("20.1.1.1")
    assert unwrapped(ip_address(host)) == plain
    assert networks(ip_address(host)) == networks(plain)
    packed = ip_address(host).packed
    assert (near_prefix(packed), far_prefix(packed)) == (plain.packed[:3], plain.packed[:2])

    counter = CapCounter(CapRule())
    for one in ("20.1.1.1", host):
        counter.add((NodeAddress("tcp", one, 9001),))
    assert not counter.has_room((NodeAddress("tcp", "20.1.1.1", 9001),)), "two of one address are all that is taken"

    rates = PrefixRates(RateRule(near=(0.0, 1.0)))
    assert rates.allow(plain, 0.0)
    assert not rates.allow(ip_address(host), 0.0)

    genesis = world.genesis(4, test_network=False)  # type: ignore[attr-defined]
    one = world.entry(1, addresses=(NodeAddress("tcp", "20.1.2.2", 9001),))  # type: ignore[attr-defined]
    other = world.entry(2, addresses=(NodeAddress("tcp", host, 9001),))  # type: ignore[attr-defined]
    assert conflict(one, other, genesis)


@pytest.mark.parametrize("text", ["::", "::1", "8.8.8.8", "2a00::1401:101", "fe80::1401:101"])
def test_an_address_that_holds_no_other_is_itself(text: str) -> None:
    assert unwrapped(ip_address(text)) == ip_address(text)
