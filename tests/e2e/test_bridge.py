"""A client that begins with a bridge line alone, or with what it has stored; and what it tells whom meanwhile."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from e2e_client import Running, client
from e2e_net import PHANTOMBAND, Network, die_with_parent, need, socks_when_up, succeed, until
from e2e_servers import PAGE, WebServer
from e2e_socks import Address, connect, receive_all
from phantomband.core.bridge_line import BridgeLine
from phantomband.core.netdir.certified import CertifiedView
from phantomband.core.netdir.requests import GetChanges, GetGenesis, GetView, GetViewDiff
from phantomband_cli.control import ClientControl

pytestmark = pytest.mark.e2e

ALL_A_CLIENT_ASKS = (GetGenesis, GetView, GetViewDiff, GetChanges)


@pytest.fixture(scope="module")
def line(network: Network) -> str:
    """Of a node that is no directory."""
    out = succeed(*PHANTOMBAND, "bridge", "line", "--dir", network.directory, "--node", "n5", "--transport", "tls")
    return out.decode().strip()


def test_a_line_and_an_empty_directory_are_enough(network: Network, web: WebServer, line: str, tmp_path: Path) -> None:
    run_dir = network.run_dir.parent / "bridged"
    command = [*PHANTOMBAND, "client", "--quiet", "--bridge", line, "--data-dir", tmp_path / "data"]
    settings = ["--set", "socks_port=0", "--set", f"run_dir={run_dir}"]
    with subprocess.Popen(
        [*map(str, command), *settings], stderr=subprocess.PIPE, preexec_fn=die_with_parent
    ) as process:
        try:
            socks = until("the client is up", lambda: socks_when_up(run_dir / "client.sock"))
            curl = (need("curl", "curl"), "-sS", "--fail", "--max-time", "60", "--noproxy", "")
            assert succeed(*curl, "--socks5-hostname", socks, f"http://localhost:{web.port}/").decode() == PAGE
            with ClientControl(run_dir / "client.sock") as control:
                guards = {c.hops[0].nickname for c in control.circuits().circuits}
            assert guards == {"n5"}
        finally:
            process.terminate()
    assert (tmp_path / "data" / "genesis.json").exists()


async def fetch(running: Running, web: WebServer) -> None:
    """The page, through the client's proxy."""
    proxy = Address.parse(running.service.addresses["socks"])

    def get() -> bytes:
        with connect(proxy, "localhost", web.port) as stream:
            stream.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return receive_all(stream)

    assert PAGE.encode() in await asyncio.to_thread(get)


def test_nothing_but_the_bridge_is_dialled_and_no_relay_is_asked_about(
    network: Network, web: WebServer, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge = BridgeLine.parse(line)

    async def main() -> None:
        async with asyncio.timeout(90), client(tmp_path, monkeypatch, bridges=(line,)) as running:
            await running.bootstrapped.wait()
            await fetch(running, web)
            await running.service._get_view()
            seen = running.seen
            assert set(seen.dialled) == {(bridge.address.host, bridge.address.port)}
            kinds = [type(r) for r in seen.requests]
            assert kinds[:2] == [GetGenesis, GetView]
            assert set(kinds[2:]) == {GetViewDiff}, "as often as it took"
            guards = {m.path[0].node_id for _, m in running.service.circuits}
            assert guards == {bridge.node_id}

    asyncio.run(main())


def test_a_session_asks_for_whole_views_only_and_a_warm_start_for_nothing(
    network: Network, web: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genesis = network.directory / "genesis.json"

    async def cold() -> None:
        async with asyncio.timeout(90), client(tmp_path, monkeypatch, genesis=genesis) as running:
            await running.bootstrapped.wait()
            await fetch(running, web)
            while not _lasts(running):
                await running.service._get_view()
                await asyncio.sleep(0.2)
            assert running.seen.requests
            assert all(isinstance(request, ALL_A_CLIENT_ASKS) for request in running.seen.requests)

    async def warm() -> None:
        held = CertifiedView.decode_untrusted((tmp_path / "view").read_bytes()).view
        clock = lambda: held.valid_after + 1.0  # noqa: E731
        async with asyncio.timeout(90), client(tmp_path, monkeypatch, clock, genesis=genesis) as running:
            await running.bootstrapped.wait()
            await fetch(running, web)
            assert running.seen.requests == [], (
                "the stored view is good: nothing is downloaded before the first circuit"
            )
            assert len(set(running.seen.dialled)) == 1

    asyncio.run(cold())
    asyncio.run(warm())


def _lasts(running: Running) -> bool:
    """Whether the view is one of a regular epoch: those of the network's first seconds are old at once."""
    view = running.service.view.current
    return view is not None and view.fresh_until - view.valid_after > 10


def test_what_a_person_sees_of_directories(network: Network, tmp_path: Path) -> None:
    status, client_status = network.ask("directory", "status"), network.ask("directory", "status", "--client")
    assert (status["of"], status["voter"], status["quorum"]) == ("n1", True, 3)
    assert status["view"]["freshness"] in ("fresh", "valid")
    assert sum(d["signed"] for d in status["directories"]) >= 3
    assert status["counters"]["voter"] == 1
    assert client_status["node_id"] is None
    assert client_status["view"]["relays"] == 6
    members = network.ask("directory", "members", "--node", "n6")
    assert {r["nickname"] for r in members["relays"]} == {f"n{i}" for i in range(1, 7)}
    assert sum("exit" in r["flags"] for r in members["relays"]) == 3
    view = network.directory / "client" / "data" / "view"
    genesis = network.directory / "genesis.json"
    text = succeed(*PHANTOMBAND, "directory", "verify", view, "--genesis", genesis).decode()
    assert "certified: epoch" in text
    damaged = tmp_path / "view"
    damaged.write_bytes(view.read_bytes()[:-1] + b"x")
    done = subprocess.run(
        [sys.executable, "-m", "phantomband_cli.main", "directory", "verify", damaged, "--genesis", genesis],
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert b"not certified" in done.stdout
