"""Real transport programs, run by a client and by a node of a real network: a page through both."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

import pytest
from e2e_net import need, need_newer, until
from e2e_programs import bridged, children, client, fetch, fetched, working_for
from e2e_servers import PAGE, WebServer, content, sha256

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

OURS = f"{sys.executable} -m phantomband_cli.main pt"
SIZE = 3_000_000


def program(name: str) -> str:
    """A command line; a program that is not installed is said to be missing."""
    if name == "ours":
        return OURS
    return need_newer(name, name) if name == "lyrebird" else need(name, name)


@pytest.mark.parametrize(
    ("server", "plugin"),
    [
        pytest.param("obfs4proxy", "obfs4proxy", id="obfs4proxy at both ends"),
        pytest.param("ours", "obfs4proxy", id="our server"),
        pytest.param("obfs4proxy", "ours", id="our client"),
        pytest.param("lyrebird", "lyrebird", id="lyrebird at both ends"),
    ],
)
def test_a_page_and_bytes_through_programs_at_both_ends(
    server: str, plugin: str, web: WebServer, tmp_path: Path
) -> None:
    dialler = f"obfs4 exec {program(plugin)}"
    with bridged(program(server), options="?iat-mode=0") as (network, line):
        assert re.fullmatch(r"Bridge obfs4 127\.0\.0\.1:\d+ .* cert=\S+ iat-mode=0", line), line
        state = network.directory / "nodes" / "n6" / "data" / "gateway" / "pluggable" / "obfs4-server"
        assert len(working_for(state)) == 1, "the node's program runs"
        with client(network, tmp_path, line, dialler) as (socks, process):
            base = f"http://localhost:{web.port}"
            assert fetch(socks, web, f"{base}/").decode() == PAGE
            assert sha256(fetch(socks, web, f"{base}/bytes/{SIZE}")) == sha256(content(SIZE))
            word = "pt" if plugin == "ours" else plugin
            (pid,) = until("the program runs", lambda: children(process.pid, word))
            os.kill(pid, signal.SIGKILL)
            again = until("it runs again", lambda: [p for p in children(process.pid, word) if p != pid])
            until("the client is back", lambda: fetched(socks, web))
            assert len(working_for(tmp_path / "data" / "pluggable" / "obfs4-client")) == 1
            process.kill()
            process.wait()
            until("nothing is left of it", lambda: not any(Path(f"/proc/{p}").exists() for p in again))
        log = (tmp_path / "log").read_text()
        assert "127.0.0.1" not in log
        assert line.split("cert=")[1].split()[0] not in log


def test_a_transport_that_is_not_built_in(web: WebServer, tmp_path: Path) -> None:
    """obfs4proxy's obfs3, by a bridge line that names it; and the node ends with its program."""
    with bridged(program("obfs4proxy"), "obfs3") as (network, line):
        assert line.startswith("Bridge obfs3 127.0.0.1:")
        with client(network, tmp_path, line, f"obfs3 exec {program('obfs4proxy')}") as (socks, _):
            assert fetch(socks, web, f"http://localhost:{web.port}/").decode() == PAGE
            (pid,) = working_for(network.directory / "nodes/n6/data/gateway/pluggable/obfs3-server")
            gateway = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            os.kill(gateway, signal.SIGKILL)
            until("the program died with its gateway", lambda: not Path(f"/proc/{pid}").exists())
            until("a new gateway has the port again", lambda: fetched(socks, web))
        until("the client's program ended", lambda: not working_for(tmp_path / "data" / "pluggable" / "obfs3-client"))
        state = network.directory / "nodes" / "n6" / "data" / "gateway" / "pluggable" / "obfs3-server"
        (pid,) = working_for(state)
        os.kill(pid, signal.SIGKILL)
        until("the node's program is back", lambda: [p for p in working_for(state) if p != pid])
    until("the node's program ended", lambda: not working_for(state))
