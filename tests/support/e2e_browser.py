"""A headless Chromium whose only way out is a network's SOCKS5 port: it cannot resolve any name."""

from __future__ import annotations

from pathlib import Path

from e2e_net import Network, need, succeed
from e2e_servers import IMAGES

WIDTHS = ",".join(str(10 + i) for i in range(IMAGES))
"""The title of the page with images, once the browser has loaded and measured every one."""


def chromium(network: Network, profile: Path, *arguments: str) -> bytes:
    """Runs it to its end. Returns: what it printed."""
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
