"""A client that reaches its bridge only through a real resolver, which forwards queries to the bridge's name server."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from e2e_net import PHANTOMBAND, die_with_parent, need, socks_when_up, succeed, until
from e2e_net import network as start
from e2e_servers import PAGE, WebServer, content, sha256
from unbound_rig import UNBOUND, free_port, unbound

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(UNBOUND is None, reason="unbound IS NOT INSTALLED: bridges through resolvers are not tested"),
]

ZONE = "t.example.test"
SIZE = 1_000_000


def test_a_page_through_a_resolver(web: WebServer, tmp_path: Path) -> None:
    dns, tcp, https = (free_port() for _ in range(3))
    listen = [f"tcp://127.0.0.1:{tcp}", f"doh://127.0.0.1:{https}?zone={ZONE}&dns=127.0.0.1:{dns}"]
    with start("--nodes", "6", changes={"n5": {"gateway": {"listen": listen}}}) as network:
        out = succeed(*PHANTOMBAND, "bridge", "line", "--dir", network.directory, "--node", "n5", "--transport", "doh")
        line = out.decode().strip()
        assert f"zone={ZONE}" in line
        tmp_path.chmod(0o755)
        with unbound(tmp_path, ZONE, dns) as resolver:
            words = line.replace(f"127.0.0.1:{https}", f"127.0.0.1:{resolver.https}").split()
            through = " ".join([*(w for w in words if not w.startswith("sni=")), "sni=resolver.test", "via=doh"])
            _fetch(network.run_dir.parent / "bridged", tmp_path / "data", through, web)


def _fetch(run_dir: Path, data: Path, line: str, web: WebServer) -> None:
    command = [*PHANTOMBAND, "client", "--quiet", "--bridge", line, "--data-dir", data]
    settings = ["--set", "socks_port=0", "--set", f"run_dir={run_dir}"]
    with subprocess.Popen(
        [*map(str, command), *settings], stderr=subprocess.PIPE, preexec_fn=die_with_parent
    ) as process:
        try:
            socks = until("the client is up", lambda: socks_when_up(run_dir / "client.sock"))
            curl = (need("curl", "curl"), "-sS", "--fail", "--max-time", "100", "--noproxy", "")
            base = f"http://localhost:{web.port}"
            assert succeed(*curl, "--socks5-hostname", socks, f"{base}/").decode() == PAGE
            assert sha256(succeed(*curl, "--socks5-hostname", socks, f"{base}/bytes/{SIZE}")) == sha256(content(SIZE))
        finally:
            process.terminate()
