"""Every way to build a network carries a page, and bytes in both directions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e_browser import WIDTHS, chromium
from e2e_net import Network, need, succeed
from e2e_net import network as start
from e2e_servers import PAGE, WebServer, content, sha256

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

VARIANTS = {
    "lane-grpc": ("--lane", "grpc"),
    "lane-unix-tcp": ("--lane", "unix", "--transport", "tcp"),
    "tls": ("--transport", "tls"),
    "quic": ("--transport", "quic"),
    "obfs4": ("--transport", "obfs4"),
    "websocket": ("--transport", "websocket"),
    "doh": ("--transport", "doh"),
    "timed": ("--mix", "timed"),
    "lane-grpc-timed-quic": ("--lane", "grpc", "--mix", "timed", "--transport", "quic"),
    "three-nodes": ("--nodes", "3"),
}
SIZE, FULL_SIZE = 5_000_000, 64_000_000
"""Bytes each way; what comes down by each of the transports."""


@pytest.fixture(scope="module", params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> Iterator[tuple[Network, tuple[str, ...]]]:
    options = VARIANTS[request.param]
    with start(*options) as running:
        yield running, options


def test_it_carries_a_page_and_bytes_both_ways(
    variant: tuple[Network, tuple[str, ...]], web: WebServer, tmp_path: Path
) -> None:
    network, options = variant
    curl = (need("curl", "curl"), "-sS", "--fail", "--noproxy", "", "--socks5-hostname", str(network.socks))
    size = FULL_SIZE if "--transport" in options else SIZE
    base = f"http://localhost:{web.port}"
    assert succeed(*curl, f"{base}/").decode() == PAGE
    assert sha256(succeed(*curl, f"{base}/bytes/{size}")) == sha256(content(size))
    file = tmp_path / "up"
    file.write_bytes(content(SIZE))
    assert succeed(*curl, "--upload-file", file, f"{base}/up").decode() == sha256(content(SIZE))


def test_a_browser_loads_a_page_with_images(
    variant: tuple[Network, tuple[str, ...]], web: WebServer, tmp_path: Path
) -> None:
    network, _ = variant
    dom = chromium(network, tmp_path, "--dump-dom", f"http://localhost:{web.port}/").decode()
    assert f"<title>{WIDTHS}</title>" in dom


def test_it_is_what_was_asked_for(variant: tuple[Network, tuple[str, ...]]) -> None:
    network, options = variant
    asked = dict(zip(options[::2], options[1::2], strict=True))
    assert network.client()["transport"] == asked.get("--transport", "tls")
    held = network.total("batches", of="mixer")
    assert (held > 0) == (asked.get("--mix") == "timed")
    for file in network.directory.glob("nodes/*/node.toml"):
        assert f'lane = "{asked.get("--lane", "unix")}"' in file.read_text()
