"""Container networks whose client uses a transport that needs keys or further libraries."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from e2e_compose import containers, eventually
from phantomband_cli.testnet.options import Options

pytestmark = [pytest.mark.slow, pytest.mark.docker, pytest.mark.e2e, pytest.mark.timeout(900)]

SUBNET = "10.88"


@pytest.mark.parametrize("transport", ["websocket", "obfs4", "doh", "auto"])
def test_a_page_and_a_file_come_through(transport: str, tmp_path: Path) -> None:
    project = f"phantomband-{transport}-{os.getpid()}"
    with containers(project, Options(nodes=3, exits=1, transport=transport), SUBNET, tmp_path) as network:
        eventually("the client is up", 180, lambda: "(healthy)" in network.state()["client"])
        assert b"three relays" in network.fetch("/")
        assert network.fetches_well()
