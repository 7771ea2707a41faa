"""Real clients behind a censor's boxes: transports that are blocked from the beginning, slowed down or cut off."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from e2e_net import PHANTOMBAND, Network, die_with_parent, need, socks_when_up, succeed, until
from e2e_net import network as start
from e2e_servers import PAGE, WebServer
from middlebox import Middlebox, middlebox
from phantomband.core.bridge_line import BridgeLine
from phantomband_cli.control import ClientControl, NoAnswer

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SLOW_RATE = 20_000
"""Bytes a second: what a throttled connection gets."""


@pytest.fixture(scope="module")
def auto() -> Iterator[Network]:
    """A network whose nodes listen on every transport."""
    with start("--transport", "auto") as running:
        yield running


class Client:
    """`phantomband client` with the bridges of a directory."""

    def __init__(self, run_dir: Path, socks: str) -> None:
        self.run_dir, self.socks = run_dir, socks
        self.curl = (need("curl", "curl"), "-sS", "--fail", "--noproxy", "", "--socks5-hostname", socks)

    def transports(self) -> Any:
        return json.loads(succeed(*PHANTOMBAND, "transports", "--json", "--run-dir", self.run_dir))

    def in_use(self) -> str:
        with ClientControl(self.run_dir / "client.sock") as control:
            return str(control.status().transport)

    def page(self, web: WebServer) -> None:
        until("a page comes", lambda: self._page(web) == PAGE, 90)

    def _page(self, web: WebServer) -> str:
        done = subprocess.run([*self.curl, "-m", "15", f"http://localhost:{web.port}/"], capture_output=True)
        return done.stdout.decode()


@contextmanager
def client(run_dir: Path, data: Path, *settings: str) -> Iterator[Client]:
    command = [*PHANTOMBAND, "client", "--quiet", "--data-dir", data, "--set", "socks_port=0", *settings]
    said = data.with_name("client.log")
    with said.open("wb") as log, subprocess.Popen(
        [*map(str, command), "--set", f"run_dir={run_dir}"], stderr=log, preexec_fn=die_with_parent
    ) as process:  # fmt: skip
        try:
            yield Client(run_dir, until("the client is up", lambda: socks_when_up(run_dir / "client.sock"), 90))
        except BaseException as e:
            e.add_note(f"{_state(run_dir / 'client.sock')}\n{said.read_text(errors='replace')[-4000:]}")
            raise
        finally:
            process.terminate()


def _state(socket: Path) -> str:
    try:
        with ClientControl(socket) as control:
            return f"{control.status()}\n{control.transports()}\n{control.circuits()}"
    except NoAnswer:
        return "it does not answer"


def through(network: Network, transport: str, box: Middlebox) -> str:
    """The bridge line of node n5 with the box's port."""
    line = _line(network, transport)
    return line.replace(f":{BridgeLine.parse(line).address.port} ", f":{box.port} ")


def _line(network: Network, transport: str) -> str:
    command = (*PHANTOMBAND, "bridge", "line", "--dir", network.directory, "--node", "n5", "--transport", transport)
    return succeed(*command).decode().strip()


@contextmanager
def boxes(network: Network) -> Iterator[tuple[Middlebox, Middlebox]]:
    """On the way to n5 by tls and by obfs4."""
    ports = [BridgeLine.parse(_line(network, transport)).address.port for transport in ("tls", "obfs4")]
    with middlebox(ports[0]) as tls, middlebox(ports[1]) as obfs4:
        yield tls, obfs4


def test_a_transport_that_is_blocked_costs_a_moment_and_is_remembered(
    auto: Network, web: WebServer, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    with boxes(auto) as (tls, obfs4):
        tls.rate = 0
        lines = [through(auto, "tls", tls), through(auto, "obfs4", obfs4)]
        added = succeed(*PHANTOMBAND, "bridge", "add", "--json", "--data-dir", data, *lines)
        assert json.loads(added) == {"added": 2, "bridges": 2}
        with client(auto.run_dir.parent / "c1", data) as running:
            running.page(web)
            found = running.transports()
            assert [t["name"] for t in found["transports"]] == ["obfs4", "tls"]
            assert found["transports"][0]["state"] == "in use"
            assert found["transports"][1]["state"] == "failed"
            assert any("did not connect while obfs4 did" in e["what"] for e in found["events"])
        before = tls.opened
        with client(auto.run_dir.parent / "c1", data) as running:
            running.page(web)
            assert running.in_use() == "obfs4"
        assert tls.opened == before, "the second start knows"


def test_one_that_is_throttled_is_left_without_breaking_streams_and_one_that_is_cut_off_too(
    auto: Network, web: WebServer, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    with boxes(auto) as (tls, obfs4):
        lines = "\n".join([through(auto, "tls", tls), through(auto, "obfs4", obfs4)])
        subprocess.run(
            [*map(str, PHANTOMBAND), "bridge", "add", "--data-dir", str(data), "-"], input=lines.encode(), check=True
        )
        with client(auto.run_dir.parent / "c2", data) as running:
            running.page(web)
            assert running.in_use() == "tls"
            download = tmp_path / "download"
            url = f"http://localhost:{web.port}/bytes/200000000"
            with subprocess.Popen(
                [*running.curl, "--limit-rate", "2M", "-o", download, url], preexec_fn=die_with_parent
            ) as curl:
                size = lambda: download.stat().st_size if download.exists() else 0  # noqa: E731
                until("the download runs", lambda: size() > 1_000_000)
                tls.rate = SLOW_RATE
                until("another transport is in use", lambda: running.in_use() == "obfs4", 90)
                running.page(web)
                events = running.transports()["events"]
                assert any(e["transport"] == "tls" and "new streams go by obfs4" in e["what"] for e in events)
                had = size()
                until("the old stream goes on", lambda: size() > had, 60)
                assert curl.poll() is None
                curl.kill()
            tls.rate = None
            with subprocess.Popen(
                [*running.curl, "--limit-rate", "1M", "-o", tmp_path / "second", url], preexec_fn=die_with_parent
            ) as curl:
                until("the second runs", lambda: (tmp_path / "second").exists())
                obfs4.rate = 0
                until("tls is in use again", lambda: running.in_use() == "tls", 90)
                running.page(web)
                until("what cannot be kept ends with an error", lambda: curl.poll() is not None, 90)
                assert curl.returncode != 0
