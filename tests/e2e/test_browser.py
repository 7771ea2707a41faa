"""A headless Chromium that cannot resolve any name loads a page with images."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from e2e_net import Network, need, succeed
from e2e_servers import IMAGES
from e2e_servers import web as serve

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def _chromium(network: Network, profile: Path, *arguments: str) -> bytes:
    return succeed(
        need("chromium", "chromium"),
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
        *(f"--user-data-dir={profile}", "--disable-background-networking", "--window-size=400,300"),
        f"--proxy-server=socks5://{network.socks}",
        "--proxy-bypass-list=<-loopback>",  # or localhost would go past the proxy
        f"--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE {network.socks.host}",
        *arguments,
        seconds=90,
    )


def test_a_page_with_images(network: Network, tmp_path: Path) -> None:
    with serve() as web:
        opened = network.total("exit_opened", of="relay")
        dom = _chromium(network, tmp_path / "a", "--dump-dom", f"http://localhost:{web.port}/").decode()
        widths = ",".join(str(10 + i) for i in range(IMAGES))
        assert re.search(r"<title>(.*)</title>", dom, re.DOTALL).group(1) == widths  # type: ignore[union-attr]
        assert {"/", *(f"/image/{i}.png" for i in range(IMAGES))} <= set(web.paths)
        assert network.total("exit_opened", of="relay") - opened >= web.connections > 0


def test_a_screenshot(network: Network, tmp_path: Path) -> None:
    with serve() as web:
        file = tmp_path / "page.png"
        _chromium(network, tmp_path / "a", f"--screenshot={file}", f"http://localhost:{web.port}/")
        raw = file.read_bytes()
        assert raw.startswith(PNG_SIGNATURE)
        assert int.from_bytes(raw[16:20], "big") == 400
        assert len(web.paths) > IMAGES
