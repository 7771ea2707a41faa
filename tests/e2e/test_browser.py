"""A headless Chromium that cannot resolve any name loads a page with images."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from e2e_browser import WIDTHS, chromium
from e2e_net import Network
from e2e_servers import IMAGES
from e2e_servers import web as serve

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def test_a_page_with_images(network: Network, tmp_path: Path) -> None:
    with serve() as web:
        opened = network.total("exit_opened", of="relay")
        dom = chromium(network, tmp_path / "a", "--dump-dom", f"http://localhost:{web.port}/").decode()
        assert re.search(r"<title>(.*)</title>", dom, re.DOTALL).group(1) == WIDTHS  # type: ignore[union-attr]
        assert {"/", *(f"/image/{i}.png" for i in range(IMAGES))} <= set(web.paths)
        assert network.total("exit_opened", of="relay") - opened >= web.connections > 0


def test_a_screenshot(network: Network, tmp_path: Path) -> None:
    with serve() as web:
        file = tmp_path / "page.png"
        chromium(network, tmp_path / "a", f"--screenshot={file}", f"http://localhost:{web.port}/")
        raw = file.read_bytes()
        assert raw.startswith(PNG_SIGNATURE)
        assert int.from_bytes(raw[16:20], "big") == 400
        assert len(web.paths) > IMAGES
