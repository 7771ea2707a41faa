"""What somebody on the wire sees of padded links: captures of real services, idle against busy.

Kolmogorov-Smirnov tests reject one capture in a hundred of even the best padding, and a machine may be busy with
something else during one half of a capture. So padding is only said to fail when `CAPTURES` captures, one after the
other, all tell idle from busy; a leak does so each time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from math import comb
from pathlib import Path

import pytest
from e2e_net import Network, need, succeed, until
from e2e_net import network as start
from e2e_servers import WebServer, echo, tcp
from e2e_socks import connect, receive
from e2e_tap import Notes, Tapped, connections_of, tap
from ks import two_samples
from phantomband.core.link import sealed_bytes
from sklearn.ensemble import RandomForestClassifier

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]

RATE, CELLS, SLOT_SECONDS = 64, 2, 1 / 32
SLOT_BYTES = sealed_bytes(CELLS)
"""Of one slot on the wire: 4,130."""
DIALER_NK, DIALER_XK, LISTENER = 1312, 1312 + 128, 1216
"""Bytes of the link handshake (docs/reference/wire-format.md), behind which all is slots."""

PHASE_SECONDS = 8.0
CAPTURES = 4
ALPHA = 0.01
FETCH_BYTES = 150_000


@dataclass(frozen=True, slots=True)
class Rig:
    net: Network
    notes: Notes
    web: WebServer

    def fetch(self, size: int = FETCH_BYTES) -> None:
        got = succeed(
            need("curl", "curl"), "-sS", "--max-time", "60", "--socks5-hostname", str(self.net.socks),
            f"http://localhost:{self.web.port}/bytes/{size}",
        )  # fmt: skip
        assert len(got) == size

    def settle(self) -> None:
        """Nothing is left of what was fetched."""
        until("no stream is left", lambda: self.net.client()["streams_open"] == 0)
        until("no cell waits", lambda: self.net.total("cells_waiting", of="gateway") == 0)

    def client_link(self) -> Tapped:
        """The client's connection to its guard."""
        ours = connections_of(self.net.services()["client.client"]["pid"])
        found = [t for t in self.notes.read() if t.ports in ours]
        assert len(found) == 1, "the client has one link"
        return found[0]

    def node_links(self) -> list[Tapped]:
        """Connections between gateways that still stand."""
        pids = [s["pid"] for name, s in self.net.services().items() if name.endswith(".gateway")]
        theirs = set().union(*map(connections_of, pids))
        return [t for t in self.notes.read() if t.ports in theirs]


@contextmanager
def rig(directory: Path, web: WebServer, padding: str, **settings: object) -> Iterator[Rig]:
    """Three nodes, whose gateways are all dialled by way of a tap, by the client too."""
    changes = {f"n{i}": {"gateway": settings} for i in (1, 2, 3)} if settings else {}
    options = ("--nodes", "3", "--transport", "tcp", "--padding", padding)
    with tap(directory) as notes, start(*options, changes=changes, tap=notes.plan) as net:
        made = Rig(net, notes, web)
        made.fetch(1000)
        made.settle()
        yield made


Window = tuple[float, float]


def during(work: Callable[[], None] | None, seconds: float = PHASE_SECONDS) -> Window:
    """From when to when `work` was done again and again, or nothing; at least so long."""
    begin = time.monotonic()
    while (left := begin + seconds - time.monotonic()) > 0:
        if work is None:
            time.sleep(left)
        else:
            work()
    return begin, time.monotonic()


def within(records: list[tuple[float, int]], window: Window) -> list[tuple[float, int]]:
    return [r for r in records if window[0] <= r[0] < window[1]]


def gaps(records: list[tuple[float, int]]) -> list[float]:
    """Inter-record times; a slot that was read together with the one before it came at the same time."""
    times = [when for when, size in records for _ in range(max(1, size // SLOT_BYTES))]
    return [b - a for a, b in pairwise(times)]


def directions(captured: Rig, since: float) -> list[list[tuple[float, int]]]:
    """The slots of every paced direction: from the guard to the client, and both of each link between gateways that
    stood at `since`."""
    client = captured.client_link()
    found = [client.records(0, SLOT_BYTES, LISTENER)]
    for link in captured.node_links():
        if link.pieces[1][0][0] > since - 1:
            continue
        found += [link.records(0, SLOT_BYTES, LISTENER), link.records(1, SLOT_BYTES, DIALER_XK)]
    return found


def capture(captured: Rig, idle: Window, busy: Window, grain: float) -> float:
    """The probability of what was seen if idle and busy links were the same, the least of all directions (Bonferroni).

    Sizes are asserted: whatever was read together is whole slots, and the rate is the schedule's. Times are compared in
    units of `grain` seconds.
    """
    chances = []
    for records in directions(captured, idle[0]):
        seen = [within(records, window) for window in (idle, busy)]
        for window, part in zip((idle, busy), seen, strict=True):
            assert {size % SLOT_BYTES for _, size in part} == {0}
            slots = sum(size for _, size in part) // SLOT_BYTES
            expected = (window[1] - window[0]) / SLOT_SECONDS
            assert abs(slots - expected) < 7 * expected**0.5, "a Poisson count, seven deviations"
        one, other = ([round(gap / grain) for gap in gaps(part)] for part in seen)
        chances.append(two_samples(one, other))
    print([round(c, 4) for c in chances])
    return min(1.0, min(chances) * len(chances))


GRAINS = {"poisson": 0.001, "fixed": SLOT_SECONDS}
"""A fixed schedule is compared in whole slots: by how much less than that slots are late is the machine's doing, and on
a quiet machine differs with its load. Against the distances of a Poisson schedule it is nothing."""


@pytest.mark.parametrize("schedule", GRAINS)
def test_a_constant_link_looks_the_same_idle_and_busy(tmp_path: Path, web: WebServer, schedule: str) -> None:
    with rig(tmp_path, web, "constant", padding_rate=RATE, padding_schedule=schedule) as captured:
        for attempt in range(1, CAPTURES + 1):
            idle = during(None)
            before = captured.net.total("cells_padding", of="gateway")
            busy = during(captured.fetch)
            assert captured.net.total("cells_padding", of="gateway") > before
            captured.settle()
            if (probability := capture(captured, idle, busy, GRAINS[schedule])) >= ALPHA:
                return
            print(f"capture {attempt}: idle and busy differ with p = {probability:.2g}")
    pytest.fail(f"{CAPTURES} captures told idle from busy")


def test_a_link_that_is_not_padded_tells_idle_from_busy(tmp_path: Path, web: WebServer) -> None:
    """The control: with the same means, the difference is seen where there is one."""
    with rig(tmp_path, web, "off") as captured, tcp(echo) as target:
        idle = during(None)
        with connect(captured.net.socks, target.host, target.port, "light") as s:

            def little() -> None:
                s.sendall(b"x")
                receive(s, 1)
                time.sleep(0.05)

            light = during(little)
        busy = during(captured.fetch)
        pieces = captured.client_link().pieces[0]
        seen = [within(pieces, window) for window in (idle, light, busy)]
        assert 5 * len(seen[0]) < min(map(len, seen[1:]))
        assert len({size for _, size in seen[2]}) > 1
        assert two_samples(gaps(seen[1]), gaps(seen[2])) < ALPHA / 1000


ROUNDS, TURN_SECONDS, WINDOW_SECONDS = 6, 3.0, 0.5
"""An idle and a busy turn a round; a classifier learns from the first half of them and judges windows of the others."""


def turns(captured: Rig) -> list[tuple[Window, Window]]:
    """Idle and busy, one after the other, so that neither is the machine's hour."""
    out = []
    for _ in range(ROUNDS):
        idle = during(None, TURN_SECONDS)
        out.append((idle, during(captured.fetch, TURN_SECONDS)))
        captured.settle()
    return out


def features(records: list[tuple[float, int]], window: Window) -> list[list[float]]:
    """Of each half second: what was read, and the distances in between."""
    out = []
    begin = window[0]
    while begin + WINDOW_SECONDS <= min(window[1], window[0] + TURN_SECONDS):
        part = within(records, (begin, begin + WINDOW_SECONDS))
        between = [b[0] - a[0] for a, b in pairwise(part)] or [WINDOW_SECONDS]
        sizes = [float(size) for _, size in part] or [0.0]
        out.append([len(part), sum(sizes), max(sizes), max(between), min(between), *quantiles(between)])
        begin += WINDOW_SECONDS
    return out


def quantiles(values: list[float]) -> list[float]:
    ordered = sorted(values)
    return [ordered[int(part * (len(ordered) - 1))] for part in (0.25, 0.5, 0.75)]


def told_apart(records: list[tuple[float, int]], rounds: list[tuple[Window, Window]]) -> tuple[float, float]:
    """(share of windows that a random forest calls rightly idle or busy, chance of so many by guessing)."""
    table, labels, half = [], [], []
    for number, pair in enumerate(rounds):
        for label, window in enumerate(pair):
            rows = features(records, window)
            table += rows
            labels += [label] * len(rows)
            half += [number % 2] * len(rows)
    learn = [i for i, h in enumerate(half) if not h]
    judge = [i for i, h in enumerate(half) if h]
    forest = RandomForestClassifier(200, random_state=1).fit([table[i] for i in learn], [labels[i] for i in learn])
    right = int(sum(forest.predict([table[i] for i in judge]) == [labels[i] for i in judge]))
    n = len(judge)
    return right / n, sum(comb(n, k) for k in range(right, n + 1)) / 2**n


def test_a_classifier_is_at_chance_on_a_constant_link(tmp_path: Path, web: WebServer) -> None:
    with rig(tmp_path, web, "constant", padding_rate=RATE, padding_schedule="poisson") as captured:
        for _ in range(CAPTURES):
            rounds = turns(captured)
            share, chance = told_apart(captured.client_link().records(0, SLOT_BYTES, LISTENER), rounds)
            print(f"{share:.0%} of windows right, p = {chance:.2g}")
            if chance >= ALPHA:
                return
    pytest.fail(f"in {CAPTURES} captures a classifier told idle from busy")


def test_the_same_classifier_reads_a_link_that_is_not_padded(tmp_path: Path, web: WebServer) -> None:
    with rig(tmp_path, web, "off") as captured:
        rounds = turns(captured)
        share, chance = told_apart(captured.client_link().pieces[0], rounds)
        assert share > 0.9
        assert chance < ALPHA / 1000


def test_an_adaptive_network_climbs_for_a_download(tmp_path: Path, web: WebServer) -> None:
    with rig(tmp_path, web, "adaptive") as captured:
        captured.fetch(4_000_000)
        captured.settle()
        status = captured.net.status()
        gateways = [s["status"] for node in status["nodes"] for s in node["services"] if s["service"] == "gateway"]
        assert all(gateway["links_paced"] == gateway["links"] > 0 for gateway in gateways)
        assert sum(gateway["cells_padding"] for gateway in gateways) > 0
