"""Real `tor` clients and bridges with our transports as their program, at one end and at both: a page through Tor."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e_net import need, succeed
from e2e_servers import PAGE, WebServer, content, sha256
from tor_bridged import TorWithBridges

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

OURS = f"{Path(sys.executable).with_name('phantomband')} pt"
SIZE = 2_000_000

ENDS = {
    "our client, obfs4proxy": ("obfs4", "obfs4proxy", "ours", ""),
    "obfs4proxy, our server": ("obfs4", "ours", "obfs4proxy", ""),
    "both ours": ("obfs4", "ours", "ours", ""),
    "both ours, iat-mode 1": ("obfs4", "ours", "ours", "iat-mode=1"),
    "both ours, tls": ("tls", "ours", "ours", ""),
    "both ours, quic": ("quic", "ours", "ours", ""),
    "both ours, plain ORPort": ("obfs4", "ours", "ours", ""),
}


@pytest.fixture(scope="module")
def tor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorWithBridges]:
    for program in ("tor", "tor-gencert"):
        need(program, "tor")
    bridges = TorWithBridges(tmp_path_factory.mktemp("t"))
    with bridges.network:
        yield bridges


def program(name: str) -> str:
    return OURS if name == "ours" else need(name, name)


def running(home: Path) -> tuple[dict[str, str], str]:
    """Environment and command line of the transport program of the Tor that lives in `home`."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "environ").read_bytes().decode(errors="replace").split("\0")
            command = (entry / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        environment = dict(word.partition("=")[::2] for word in words)
        if environment.get("TOR_PT_STATE_LOCATION", "").startswith(str(home)):
            return environment, command
    raise AssertionError("there is no program")


@pytest.mark.parametrize("ends", ENDS)
def test_a_page_through_tor(tor: TorWithBridges, web: WebServer, ends: str) -> None:
    transport, server, client, options = ENDS[ends]
    name = f"x{list(ENDS).index(ends)}"
    with tor.bridged(
        name, transport, program(server), program(client), options, extended="plain" not in ends
    ) as bridged:
        for home, wanted in ((bridged.home, client), (bridged.bridge, server)):
            (environment, command) = running(home)
            assert ("phantomband" in command) == (wanted == "ours"), "Tor runs the program that is meant"
            if home == bridged.bridge:
                assert bool(environment.get("TOR_PT_EXTENDED_SERVER_PORT")) == ("plain" not in ends)
        curl = (need("curl", "curl"), "-sS", "--fail", "--max-time", "60", "--noproxy", "",
                "--socks5-hostname", f"127.0.0.1:{bridged.socks}")  # fmt: skip
        assert succeed(*curl, f"http://127.0.0.1:{web.port}/").decode() == PAGE
        if "iat" not in ends:
            assert sha256(succeed(*curl, f"http://127.0.0.1:{web.port}/bytes/{SIZE}")) == sha256(content(SIZE))
