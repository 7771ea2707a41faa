"""A network whose directories fall silent: clients go on with the view that they have, and say so."""

from __future__ import annotations

import os
import signal

import pytest
from e2e_net import PHANTOMBAND, Network, need, succeed, until
from e2e_net import network as start
from e2e_servers import PAGE, WebServer

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]

EPOCH_SECONDS = 4


def fetch(net: Network, web: WebServer, user: str) -> str:
    curl = (need("curl", "curl"), "-sS", "--fail", "--max-time", "60", "--noproxy", "", "--proxy-user", f"{user}:x")
    return succeed(*curl, "--socks5-hostname", str(net.socks), f"http://localhost:{web.port}/").decode()


def test_an_old_view_serves_with_a_warning_until_there_is_a_newer_one(web: WebServer) -> None:
    with start("--nodes", "4", "--epoch-seconds", str(EPOCH_SECONDS)) as net:
        until("the regular epochs began", lambda: net.client()["view_epoch"] > 21)
        directories = [s["pid"] for s in net.services().values() if s["service"] == "directory"]
        for pid in directories:
            os.kill(pid, signal.SIGSTOP)
        try:
            old = until("the warning", lambda: _warned(net))
            for turn in range(3):
                assert fetch(net, web, f"old{turn}") == PAGE
            assert net.client()["view_epoch"] == old["view_epoch"]
            said = succeed(*PHANTOMBAND, "status", "--dir", net.directory).decode()
            assert "the view of the network is old" in said
            assert "stale" in said
        finally:
            for pid in directories:
                os.kill(pid, signal.SIGCONT)
        until("a newer view", lambda: net.client()["view_epoch"] > old["view_epoch"])
        until("the warning is gone", lambda: not net.client()["trouble"])
        assert net.client()["view_freshness"] in ("fresh", "valid")
        assert fetch(net, web, "new") == PAGE
        assert net.total("bugs") == 0


def _warned(net: Network) -> dict[str, object] | None:
    status = net.client()
    return status if "old" in (status["trouble"] or "") else None
