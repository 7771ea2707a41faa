"""A bridge that no view lists: whoever has its line gets through it, and nobody else learns of it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from e2e_net import PHANTOMBAND, Network, die_with_parent, need, socks_when_up, succeed, until
from e2e_servers import PAGE, WebServer
from phantomband_cli.control import ClientControl, ask_services
from phantomband_cli.testnet.ports import free_ports

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def bridge(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The configuration of a bridge that runs."""
    home = tmp_path_factory.mktemp("bridge")
    like = network.directory / "nodes" / "n5"
    ports = iter(free_ports(("tcp", "tls", "quic", "obfs4")))
    text = (like / "node.toml").read_text().replace(str(like / "data"), str(home / "data"))
    text = re.sub(r"(\w+)://127\.0\.0\.1:\d+", lambda found: f"{found[1]}://127.0.0.1:{next(ports)}", text)
    text = text.replace(str(network.run_dir / "n5"), str(network.run_dir / "hidden")).replace('"n5"', '"hidden"')
    (home / "node.toml").write_text(f"bridge = true\n{text}")
    with running([*PHANTOMBAND, "node", "--config", home / "node.toml"], home / "log"):
        until("its gateway is up", lambda: (network.run_dir / "hidden" / "gateway.sock").exists(), 60)
        yield home / "node.toml"


@contextmanager
def running(command: list[object], log: Path) -> Iterator[None]:
    with log.open("wb") as out, subprocess.Popen(
        [str(part) for part in command], stdout=out, stderr=out, preexec_fn=die_with_parent
    ) as process:  # fmt: skip
        try:
            yield
        finally:
            process.terminate()


def test_a_client_gets_through_and_the_network_does_not_know(
    network: Network, web: WebServer, bridge: Path, tmp_path: Path
) -> None:
    line = until("its line", lambda: _line(bridge))
    run_dir = network.run_dir.parent / "unlisted"
    client = [*PHANTOMBAND, "client", "--quiet", "--bridge", line, "--data-dir", tmp_path / "data"]
    before = network.ask("directory", "members")["relays"]
    for _ in range(2):  # the second start is a warm one: the view is stored, the bridge's keys are not
        with running([*client, "--set", "socks_port=0", "--set", f"run_dir={run_dir}"], tmp_path / "log"):
            socks = until("the client is up", lambda: socks_when_up(run_dir / "client.sock"), 90)
            curl = (need("curl", "curl"), "-sS", "--fail", "--max-time", "60", "--noproxy", "")
            assert succeed(*curl, "--socks5-hostname", socks, f"http://localhost:{web.port}/").decode() == PAGE
            with ClientControl(run_dir / "client.sock") as control:
                assert {c.hops[0].nickname for c in control.circuits().circuits} == {"hidden"}
    assert {relay["nickname"] for relay in before} == {f"n{i}" for i in range(1, 7)}
    hidden = ask_services({"directory": network.run_dir / "hidden" / "directory.sock"}, timeout=20)["directory"]
    assert hidden is not None
    assert (hidden.values["table_contacts"], hidden.values["gossip_rounds"]) == (0, 0)
    epoch = network.client()["view_epoch"]
    until("another view", lambda: network.client()["view_epoch"] > epoch, 90)
    assert network.ask("directory", "members")["relays"] != []
    assert {r["nickname"] for r in network.ask("directory", "members")["relays"]} == {f"n{i}" for i in range(1, 7)}
    for name in ("n1", "n2", "n3", "n4", "n6"):
        held = ask_services({"directory": network.run_dir / name / "directory.sock"}, timeout=20)["directory"]
        assert held is not None
        assert held.values["descriptors"] <= 6, "nobody has been given the bridge's descriptor"


def _line(config: Path) -> str:
    done = subprocess.run(
        [*map(str, PHANTOMBAND), "bridge", "line", "--config", str(config), "--transport", "tls"], capture_output=True
    )
    return done.stdout.decode().strip()
