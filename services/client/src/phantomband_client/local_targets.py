"""Targets that no exit is ever told: they mean something on this machine or its network only."""

from __future__ import annotations

import ipaddress

from phantomband.core.netdir.exit_policy import is_private
from phantomband.core.stream.messages import Target
from phantomband.core.stream.special_names import is_loopback_name, is_special_use


def stays_here(where: Target, *, test_network: bool) -> bool:
    """Whether a target is refused here: names of special use, addresses outside the public Internet.

    An exit would refuse them too, but by then it would know what is in this user's network. In a test network exits are
    on this machine: it is reached, by address and as localhost.
    """
    if where.is_name:
        return is_special_use(where.host) and not (test_network and is_loopback_name(where.host))
    return not test_network and is_private(ipaddress.ip_address(where.host))
