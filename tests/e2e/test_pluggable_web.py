"""lyrebird's webtunnel through a real nginx with TLS, and its meek: programs whose traffic is a web site's."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
import web_programs
import web_rig
from e2e_net import need, need_newer
from e2e_programs import bridged, client, fetch
from e2e_servers import PAGE, WebServer, content, sha256

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SIZE = 3_000_000
STAND_IN = f"{sys.executable} {web_programs.__file__}"
NAME = "www.example.org"
LOCATION = """
    listen 127.0.0.1:PORT ssl; ssl_certificate {cert}; ssl_certificate_key {key};
    location = /secret {{
        proxy_pass http://127.0.0.1:{port}; proxy_http_version 1.1; proxy_set_header Host $host;
        proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade"; proxy_read_timeout 1d;
    }}
"""


def test_webtunnel_behind_nginx(web: WebServer, tmp_path: Path) -> None:
    """The real server program where it is installed, which Debian has not; otherwise ours, made for the test."""
    need("nginx", "nginx-light")
    lyrebird = need_newer("lyrebird", "lyrebird")
    cert, key = web_rig.certificate(tmp_path, NAME)
    port = web_rig.free_port()
    program = shutil.which("webtunnel-server") or STAND_IN
    with web_rig.nginx(tmp_path, LOCATION.format(cert=cert, key=key, port=port)) as front:
        url = quote(f"https://127.0.0.1:{front}/secret", safe="")
        with bridged(program, "webtunnel", f"?url={url}&servername={NAME}", port) as (network, line):
            assert f"url=https://127.0.0.1:{front}/secret" in line
            plugin = f"webtunnel exec /usr/bin/env SSL_CERT_FILE={cert} {lyrebird}"
            with client(network, tmp_path, line, plugin) as (socks, _):
                base = f"http://localhost:{web.port}"
                assert fetch(socks, web, f"{base}/").decode() == PAGE
                assert sha256(fetch(socks, web, f"{base}/bytes/{SIZE}")) == sha256(content(SIZE))


def test_meek(web: WebServer, tmp_path: Path) -> None:
    """The server is ours, made for the test."""
    lyrebird = need_newer("lyrebird", "lyrebird")
    port = web_rig.free_port()
    url = f"http://127.0.0.1:{port}/"
    with bridged(STAND_IN, "meek_lite", f"?url={quote(url, safe='')}", port) as (network, line):
        assert f"url={url}" in line
        with client(network, tmp_path, line, f"meek_lite exec {lyrebird}") as (socks, _):
            base = f"http://localhost:{web.port}"
            assert fetch(socks, web, f"{base}/").decode() == PAGE
            assert sha256(fetch(socks, web, f"{base}/bytes/{SIZE}")) == sha256(content(SIZE))
