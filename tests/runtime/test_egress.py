"""The queue of one link: at once while the connection takes bytes, circuits in turn when it does not."""

from __future__ import annotations

from collections import defaultdict
from itertools import groupby

import pytest
from egress_rig import PlainLink
from fakes import FakeConnection
from hypothesis import given, settings
from hypothesis import strategies as st
from phantomband.core.cell import CELL_BYTES
from phantomband.runtime import egress as module
from phantomband.runtime.egress import CIRCUIT_CAP, LINK_CAP, LINK_QUEUE_CAP, TURN_CELLS, WRITE_CELLS, Egress


def cell(circuit: int, number: int) -> bytes:
    return (circuit.to_bytes(4, "big") + number.to_bytes(4, "big")).ljust(CELL_BYTES, b"\0")


def names(data: bytes) -> list[tuple[int, int]]:
    cells = [data[i : i + 8] for i in range(0, len(data), CELL_BYTES)]
    return [(int.from_bytes(c[:4], "big"), int.from_bytes(c[4:], "big")) for c in cells]


class Rig:
    def __init__(self) -> None:
        self.connection = FakeConnection()
        self.given_up: list[bytes] = []
        self.egress = Egress(PlainLink(), self.connection, self.given_up.append)  # type: ignore[arg-type]

    def queue(self, circuit: int, count: int, first: int = 0) -> None:
        self.egress.add(b"".join(cell(circuit, first + i) for i in range(count)))


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_the_bounds_are_those_of_the_reference() -> None:
    assert (CIRCUIT_CAP, LINK_QUEUE_CAP, LINK_CAP, TURN_CELLS, WRITE_CELLS) == (4096, 16_384, 32_768, 15, 120)


def test_an_idle_connection_gets_a_batch_at_once_and_as_it_is(rig: Rig) -> None:
    batch = cell(2, 0) + cell(1, 0) + cell(2, 1)
    rig.egress.add(batch)
    assert rig.connection.written == [batch]
    assert (rig.egress.waiting, rig.egress.cells_sent) == (0, 3)


def test_a_congested_connection_gets_nothing_until_it_is_writable(rig: Rig) -> None:
    rig.connection.congest()
    rig.queue(1, 5)
    rig.egress.drain()
    assert not rig.connection.written
    assert rig.egress.waiting == 5
    rig.connection.congest(False)
    rig.egress.drain()
    assert names(rig.connection.take()) == [(1, i) for i in range(5)]
    assert (rig.egress.waiting, rig.egress.cells_sent) == (0, 5)


def test_circuits_take_turns_of_one_record_whoever_came_first(rig: Rig) -> None:
    rig.connection.congest()
    rig.queue(1, 2 * TURN_CELLS + 10)
    rig.queue(2, 2)
    rig.queue(3, 1)
    rig.connection.congest(False)
    rig.egress.drain()
    turns = [(c, len(list(run))) for c, run in groupby(c for c, _ in names(rig.connection.take()))]
    assert turns == [(1, TURN_CELLS), (2, 2), (3, 1), (1, TURN_CELLS + 10)]


def turns(data: bytes) -> list[tuple[int, int]]:
    """(circuit, cells that stand together)."""
    return [(circuit, len(list(run))) for circuit, run in groupby(c for c, _ in names(data))]


def test_a_turn_is_as_long_whether_cells_come_one_by_one_or_together(rig: Rig) -> None:
    rig.connection.congest()
    for number in range(TURN_CELLS + 3):
        rig.egress.add(cell(1, number) + cell(2, number))
    rig.queue(3, TURN_CELLS + 3)
    rig.connection.congest(False)
    rig.egress.drain()
    data = rig.connection.take()
    assert turns(data) == [(1, 15), (2, 15), (3, 15), (1, 3), (2, 3), (3, 3)]
    for circuit in (1, 2, 3):
        assert [n for c, n in names(data) if c == circuit] == list(range(TURN_CELLS + 3))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.lists(st.integers(1, 40), min_size=1, max_size=12))
def test_no_turn_is_longer_than_one_record_whatever_the_pieces(one: list[int], two: list[int]) -> None:
    rig = Rig()
    rig.connection.congest()
    for circuit, pieces in ((1, one), (2, two)):
        for count in pieces:
            rig.queue(circuit, count)
    rig.connection.congest(False)
    rig.egress.drain()
    got = turns(rig.connection.take())
    both = [n for _, n in got[: 2 * (len(got) // 2 - 1)]]  # at the end one circuit is left alone
    assert all(n <= TURN_CELLS for n in both)
    assert sum(n for _, n in got) == sum(one) + sum(two)
    assert rig.egress.waiting == 0


def test_a_reset_drops_what_waits_for_circuits_and_keeps_what_is_the_links_own(rig: Rig) -> None:
    rig.connection.congest()
    rig.queue(1, 200)
    rig.queue(0, 3)
    rig.queue(2, 20)
    rig.egress.reset(cell(0, 99))
    assert rig.egress.waiting == 4
    assert not rig.given_up
    rig.queue(1, 1, first=500)
    rig.connection.congest(False)
    rig.egress.drain()
    assert names(rig.connection.take()) == [(0, 0), (0, 1), (0, 2), (0, 99), (1, 500)]
    assert (rig.egress.waiting, rig.egress.cells_sent) == (0, 5)


def test_a_reset_of_an_idle_link_sends_at_once(rig: Rig) -> None:
    rig.egress.reset(cell(0, 1))
    assert names(rig.connection.take()) == [(0, 1)]


def test_a_reset_of_a_link_on_which_only_circuits_waited_leaves_room(rig: Rig) -> None:
    rig.connection.congest()
    rig.queue(1, CIRCUIT_CAP)
    rig.egress.reset(cell(0, 1))
    rig.queue(1, CIRCUIT_CAP)
    assert rig.egress.waiting == CIRCUIT_CAP + 1
    assert not rig.given_up


def test_a_circuit_with_a_long_queue_delays_another_by_one_record_at_most(rig: Rig) -> None:
    rig.connection.congest()
    rig.queue(1, 3000)
    rig.queue(2, 1)
    rig.connection.congest(False)
    rig.egress.drain()
    assert names(rig.connection.take()).index((2, 0)) <= TURN_CELLS


def test_what_comes_while_cells_wait_queues_behind_them(rig: Rig) -> None:
    rig.connection.congest()
    rig.queue(1, 2)
    rig.connection.congest(False)
    rig.queue(1, 2, first=2)
    assert names(rig.connection.take()) == [(1, i) for i in range(4)]


def test_a_drain_stops_when_the_connection_is_congested_again(rig: Rig) -> None:
    rig.connection.congest()
    rig.queue(1, 3 * WRITE_CELLS)
    rig.connection.congest(False)
    write = rig.connection.write

    def write_and_fill(data: bytes | bytearray | memoryview) -> None:
        write(data)
        rig.connection.congest()

    rig.connection.write = write_and_fill  # type: ignore[method-assign]
    rig.egress.drain()
    assert rig.egress.waiting == 2 * WRITE_CELLS
    assert len(rig.connection.written) == 1


def test_a_circuit_over_its_cap_is_given_up_and_the_others_stay(rig: Rig) -> None:
    rig.connection.congest()
    rig.queue(2, 3)
    rig.queue(1, CIRCUIT_CAP)
    assert not rig.given_up
    rig.queue(1, 1)
    assert rig.given_up == [b"\0\0\0\1"]
    assert (rig.egress.waiting, rig.egress.given_up) == (3, 1)
    rig.connection.congest(False)
    rig.egress.drain()
    assert names(rig.connection.take()) == [(2, i) for i in range(3)]


def test_over_the_cap_of_the_link_the_longest_queue_is_given_up(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINK_CAP", 20)
    rig.connection.congest()
    rig.queue(1, 5)
    rig.queue(2, 9)
    rig.queue(3, 6)
    assert not rig.given_up
    rig.queue(1, 1, first=5)
    assert rig.given_up == [b"\0\0\0\2"]
    assert rig.egress.waiting == 12


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.tuples(st.integers(1, 4), st.integers(1, 200)), st.booleans()), max_size=25))
def test_nothing_is_lost_and_each_circuit_keeps_its_order(moves: list[tuple[int, int] | bool]) -> None:
    rig = Rig()
    put: dict[int, int] = defaultdict(int)
    for move in moves:
        if isinstance(move, bool):
            rig.connection.congest(move)
            rig.egress.drain()
        else:
            circuit, count = move
            rig.queue(circuit, count, put[circuit])
            put[circuit] += count
    rig.connection.congest(False)
    rig.egress.drain()
    got = names(rig.connection.take())
    for circuit, count in put.items():
        assert [n for c, n in got if c == circuit] == list(range(count))
    assert rig.egress.cells_sent == len(got) == sum(put.values())
    assert not rig.given_up
