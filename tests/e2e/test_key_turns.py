"""Onion keys turn each epoch on a real network: streams and new circuits go on, turn after turn."""

from __future__ import annotations

import hashlib
import subprocess
import time
from collections.abc import Iterator

import pytest
from e2e_net import Network, need, until
from e2e_net import network as start
from e2e_servers import WebServer, content

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]

EPOCH_SECONDS = 8
TURNS = 6
SIZE = 200_000
NODES = 4


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    """Every node turns its keys at each epoch; the client uses a circuit for some seconds only."""
    nodes = {f"n{i + 1}": {"relay": {"onion_key_epochs": 1}} for i in range(NODES)}
    client = {"client": {"": {"circuit_lifetime": 2.0}}}
    with start("--nodes", str(NODES), "--epoch-seconds", str(EPOCH_SECONDS), changes={**nodes, **client}) as running:
        yield running


def fetch(net: Network, web: WebServer, user: str) -> bytes:
    done = subprocess.run(
        [need("curl", "curl"), "-sS", "--max-time", "60", "--proxy-user", f"{user}:x", "--socks5-hostname",
         str(net.socks), f"http://localhost:{web.port}/bytes/{SIZE}"],
        capture_output=True, timeout=90,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


def turns(net: Network) -> int:
    """The least number of turns of any relay."""
    return min(int(s["status"]["key_turns"]) for s in net.services().values() if s["service"] == "relay")


def test_streams_and_new_circuits_go_on_across_turns(net: Network, web: WebServer) -> None:
    expected = hashlib.sha256(content(SIZE)).digest()
    first = until("the regular epochs began", lambda: turns(net) or None)
    before = net.services()["client.client"]["status"]
    fetched = 0
    until_seconds = time.monotonic() + 3 * TURNS * EPOCH_SECONDS
    while turns(net) < first + TURNS and time.monotonic() < until_seconds:
        assert hashlib.sha256(fetch(net, web, f"u{fetched}")).digest() == expected
        fetched += 1
    after = net.services()["client.client"]["status"]
    made = after["circuits_made"] - before["circuits_made"]
    failed = after["circuits_failed"] - before["circuits_failed"]
    refused = net.total("handshakes_refused", of="relay")
    print(f"{turns(net) - first} turns, {fetched} fetches, {made:g} circuits, {failed:g} failed, {refused} refused")
    assert turns(net) >= first + TURNS
    assert fetched > TURNS
    assert made > fetched / 2
    assert (failed, refused) == (0, 0)
    assert net.total("bugs") == 0
    carried = [s["status"]["capacity"] for s in net.services().values() if s["service"] == "relay"]
    assert max(carried) > SIZE / 10, "what relays say that they have carried"
