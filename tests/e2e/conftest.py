"""One network and one web server for all end-to-end tests of a session; tests start variants themselves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from e2e_net import Network
from e2e_net import network as start
from e2e_servers import WebServer
from e2e_servers import web as serve

FORBIDDEN = "127.66.0.0/16"
"""Addresses that no exit of the session's network allows."""
FORBIDDEN_PORT = 25
CONNECT_SECONDS = 4
"""How long its exits wait for a target."""

CHANGES = {
    "exits": {
        "relay": {
            "connect_timeout": CONNECT_SECONDS,
            "exit_policy": [f"reject {FORBIDDEN}:*", f"reject *:{FORBIDDEN_PORT}", "accept *:*"],
        }
    }
}


@pytest.fixture(scope="session")
def network() -> Iterator[Network]:
    """Six nodes, three of them exits, that log everything they ever log."""
    with start("--nodes", "6", debug=True, changes=CHANGES) as running:
        yield running


@pytest.fixture(scope="session")
def web() -> Iterator[WebServer]:
    """Pages and files on 127.0.0.1."""
    with serve() as server:
        yield server
