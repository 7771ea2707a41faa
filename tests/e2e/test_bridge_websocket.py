"""The whole way of somebody behind a firewall: client, HTTP proxy, nginx, a bridge's WebSocket, three hops, a page."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import proxies
import pytest
import web_rig
from e2e_net import PHANTOMBAND, Network, die_with_parent, need, socks_when_up, succeed, until
from e2e_net import network as start
from e2e_servers import PAGE, WebServer, content, sha256

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SIZE = 3_000_000
NGINX = """
    listen 127.0.0.1:PORT ssl; ssl_certificate {cert}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3;
    location / {{
        proxy_pass https://127.0.0.1:{port}; proxy_http_version 1.1; proxy_set_header Host $host;
        proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $http_connection; proxy_read_timeout 1d;
    }}
"""


@pytest.fixture(scope="module")
def over_websocket() -> Iterator[Network]:
    with start("--transport", "websocket") as running:
        yield running


def test_a_page_comes_through_proxy_and_nginx(over_websocket: Network, web: WebServer, tmp_path: Path) -> None:
    if web_rig.NGINX is None:
        need("nginx", "nginx")
    network = over_websocket
    of = ("--dir", network.directory, "--node", "n5", "--transport", "websocket")
    line = succeed(*PHANTOMBAND, "bridge", "line", *of).decode().strip()
    place = line.split()[2]
    cert, key = web_rig.certificate(tmp_path)
    server = NGINX.format(cert=cert, key=key, port=place.rpartition(":")[2])
    run_dir = network.run_dir.parent / "behind"
    with web_rig.nginx(tmp_path, server) as port, proxies.proxy(proxies.http) as proxy:
        command = [*PHANTOMBAND, "client", "--quiet", "--data-dir", tmp_path / "data"]
        command += ["--bridge", line.replace(place, f"127.0.0.1:{port}"), "--set", "socks_port=0"]
        command += ["--set", f"run_dir={run_dir}", "--set", f'upstream_proxy="http://me:secret@127.0.0.1:{proxy.port}"']
        with subprocess.Popen(
            [*map(str, command)], stderr=(tmp_path / "log").open("wb"), preexec_fn=die_with_parent
        ) as process:
            try:
                socks = until("the client is up", lambda: socks_when_up(run_dir / "client.sock"))
                curl = (need("curl", "curl"), "-sS", "--fail", "--max-time", "60", "--noproxy", "")
                base = ("--socks5-hostname", socks, f"http://localhost:{web.port}")
                assert succeed(*curl, *base[:2], f"{base[2]}/").decode() == PAGE
                assert sha256(succeed(*curl, *base[:2], f"{base[2]}/bytes/{SIZE}")) == sha256(content(SIZE))
            finally:
                process.terminate()
        assert set(proxy.targets) == {("127.0.0.1", port)}
        log = (tmp_path / "log").read_text()
        assert "secret" not in log
        assert str(proxy.port) not in log
