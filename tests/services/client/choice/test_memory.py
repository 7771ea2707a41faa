"""What is remembered of transports: order, pauses, networks, and a file that may be anything."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phantomband.runtime.state_files import StateFiles
from phantomband_client.choice.local_network import UNKNOWN, _router, local_network
from phantomband_client.choice.memory import (
    FIRST_PAUSE,
    FORGET_SECONDS,
    LAST_PAUSE,
    MAX_NETWORKS,
    Known,
    TransportMemory,
)
from world import Seeded

NAMES = ["tls", "quic", "websocket", "obfs4"]


class Client:
    """A memory whose clock and network tests set."""

    def __init__(self, folder: Path) -> None:
        self.now, self.network = 1e9, "home"
        self.path = folder / "transports.json"
        self.start()

    def start(self) -> None:
        self.memory = TransportMemory(
            StateFiles(self.path.parent), lambda: self.now, lambda salt: self.network, Seeded(1)
        )

    def order(self) -> list[str]:
        return self.memory.in_order(NAMES)


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(tmp_path)


def test_without_knowledge_the_preference_holds(client: Client) -> None:
    assert client.order() == NAMES


def test_what_worked_comes_first_also_after_a_restart(client: Client) -> None:
    client.memory.worked("websocket", 0.4)
    client.start()
    assert client.order() == ["websocket", "tls", "quic", "obfs4"]
    assert client.memory.of("websocket") == Known(1e9, 0, 0, 0.4)


def test_what_failed_comes_last_for_a_while_and_longer_each_time(client: Client) -> None:
    pause = FIRST_PAUSE
    for _ in range(12):
        client.memory.failed("tls")
        assert client.order() == ["quic", "websocket", "obfs4", "tls"]
        client.now += min(pause, LAST_PAUSE) - 1
        assert client.memory.pausing("tls")
        client.now += 1
        assert client.order() == NAMES
        pause *= 2
    client.memory.worked("tls", 0.1)
    client.memory.failed("tls")
    client.now += FIRST_PAUSE
    assert not client.memory.pausing("tls"), "one that worked begins anew"


def test_each_network_is_for_itself(client: Client) -> None:
    client.memory.failed("tls")
    client.network = "cafe"
    assert client.order() == NAMES
    client.network = "home"
    assert client.order()[-1] == "tls"


def test_it_is_forgotten_after_a_week_and_with_too_many_networks(client: Client) -> None:
    client.memory.worked("obfs4", 1)
    for number in range(MAX_NETWORKS):
        client.now += 1
        client.network = str(number)
        client.memory.worked("tls", 1)
    client.network = "home"
    assert client.order() == NAMES
    client.network = str(MAX_NETWORKS - 1)
    client.memory.worked("quic", 1)
    client.now += FORGET_SECONDS
    assert client.memory.of("quic") == Known()


def test_the_file_tells_no_network_and_only_us(client: Client) -> None:
    client.memory.worked("tls", 1)
    assert stat.S_IMODE(client.path.stat().st_mode) == 0o600


def test_a_full_disk_does_no_harm(tmp_path: Path) -> None:
    client = Client(tmp_path / "missing")
    client.memory.worked("quic", 1)
    assert client.order()[0] == "quic"


@given(st.one_of(st.text(), st.builds(json.dumps, st.recursive(
    st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["salt", "networks", "seen", "transports", "worked", "failed", "failures", "seconds"]), inner),
))))  # fmt: skip
def test_any_file_can_stand_there(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("any") / "transports.json"
    path.write_text(text)
    memory = TransportMemory(StateFiles(path.parent), lambda: 1.0, lambda salt: "n", Seeded(1))
    assert memory.in_order(NAMES) == NAMES


ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""
NEIGHBOURS = """IP address       HW type     Flags       HW address            Mask     Device
192.168.0.1      0x1         0x2         02:00:5e:10:00:01     *        eth0
"""


def test_a_network_is_its_router_and_its_name_needs_the_key(tmp_path: Path) -> None:
    routes, neighbours = tmp_path / "route", tmp_path / "arp"
    assert _router(routes, neighbours) == UNKNOWN
    routes.write_text(ROUTES)
    assert _router(routes, neighbours) == b"192.168.0.1"
    neighbours.write_text(NEIGHBOURS)
    assert _router(routes, neighbours) == b"02:00:5e:10:00:01"
    names = {local_network(salt, routes, neighbours) for salt in (b"a", b"b")}
    assert len(names) == 2
    assert all(len(name) == 32 for name in names)
    routes.write_text("garbage\n1 00000000 zz\n")
    assert _router(routes, neighbours) == UNKNOWN


def test_a_clock_that_was_set_back_keeps_no_transport_waiting() -> None:
    known = Known(worked=0.0, failed=1_000_000.0, failures=30)
    assert known.pausing(1_000_000.0 + 60)
    assert not known.pausing(1_000_000.0 - 60)
