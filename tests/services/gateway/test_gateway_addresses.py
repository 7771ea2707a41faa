"""What a gateway says of where it listens, and what it refuses to say."""

from __future__ import annotations

from pathlib import Path

import pytest
from phantomband.core.errors import ConfigError
from phantomband.transports.base import Address
from phantomband.transports.registry import make
from phantomband_gateway.__main__ import _reachable
from phantomband_gateway.service import advertised

PLAIN = Address("websocket", "127.0.0.1", 8443, {"plain": "yes", "site": "/"})
OUTSIDE = Address("websocket", "192.0.2.1", 443, {"sni": "www.example.org"})


def test_parameters_of_an_advertised_address_are_stronger_than_the_transports(tmp_path: Path) -> None:
    transports = {name: make(name) for name in ("tcp", "websocket")}
    transports["websocket"].configure(tmp_path, PLAIN.parameters)
    path = transports["websocket"].parameters()["path"]
    tcp = Address("tcp", "192.0.2.1", 9001)
    found = advertised((tcp, OUTSIDE), [(PLAIN, 8443)], transports)
    assert [dict(a.parameters) for a in found] == [{}, {"path": path, "sni": "www.example.org"}]


def test_parameters_of_a_listener_are_not_published(tmp_path: Path) -> None:
    """Its files are nobody's business."""
    transports = {"websocket": make("websocket")}
    transports["websocket"].configure(tmp_path, {"site": "/"})
    (found,) = advertised((), [(Address("websocket", "192.0.2.1", 0, {"site": "/"}), 443)], transports)
    assert (found.host, found.port) == ("192.0.2.1", 443)
    assert set(found.parameters) == {"path", "sni"}


def test_a_listener_without_tls_needs_an_outside_address() -> None:
    with pytest.raises(ConfigError, match=r"gateway\.advertise"):
        _reachable((PLAIN,), ())
    _reachable((PLAIN,), (OUTSIDE,))
    _reachable((OUTSIDE,), ())
