"""A connection that nobody uses for a long time still works then."""

from __future__ import annotations

import os
import time

import pytest
from e2e_net import Network
from e2e_servers import echo, tcp
from e2e_socks import connect, receive

IDLE_SECONDS = float(os.environ.get("PHANTOMBAND_E2E_IDLE_SECONDS", "300"))

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(IDLE_SECONDS + 120)]


def test_an_idle_connection_is_kept(network: Network) -> None:
    with tcp(echo) as target, connect(network.socks, target.host, target.port, "idle") as s:
        s.sendall(b"before")
        assert receive(s, 6) == b"before"
        (used,) = (c["id"] for c in network.circuits() if c["streams"])
        time.sleep(IDLE_SECONDS)  # this is what is tested
        assert [c["id"] for c in network.circuits() if c["streams"]] == [used]
        s.sendall(b"after")
        assert receive(s, 5) == b"after"
