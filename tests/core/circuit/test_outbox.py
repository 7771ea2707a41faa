"""What waits to be sent: order, one wake for each batch, nothing twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from phantomband.core.cell import BODY_BYTES, CELL_BYTES, HEADER_BYTES
from phantomband.core.circuit.outbox import PADDING, ZERO_BODY, Outbox, padded
from phantomband.core.ids import LinkId
from phantomband.core.onion import MAX_HOPS, sealed_bytes


class Woken:
    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


def test_padding_fills_each_hops_cell() -> None:
    for hop in range(1, MAX_HOPS + 1):
        assert HEADER_BYTES + sealed_bytes(hop) + len(PADDING[hop - 1]) == CELL_BYTES
    assert len(ZERO_BODY) == BODY_BYTES
    assert not any(ZERO_BODY)


def test_the_first_cell_after_a_drain_wakes_and_no_other() -> None:
    woken = Woken()
    outbox = Outbox(woken)
    one, two = outbox.link(LinkId(1)), outbox.link(LinkId(2))
    assert outbox.empty
    for link in (one, two, one):
        link.add(b"h", b"b", b"p")
    assert woken.times == 1
    assert not outbox.empty
    assert list(outbox.drain()) == [(1, 2, [b"h", b"b", b"p"] * 2), (2, 1, [b"h", b"b", b"p"])]
    assert outbox.empty
    assert list(outbox.drain()) == []
    one.add(b"h", b"b", b"p")
    assert woken.times == 2


def test_cells_that_come_while_draining_are_not_lost() -> None:
    woken = Woken()
    outbox = Outbox(woken)
    one, two = outbox.link(LinkId(1)), outbox.link(LinkId(2))
    one.add(b"1", b"", b"")
    two.add(b"2", b"", b"")
    drained = outbox.drain()
    assert next(drained)[2] == [b"1", b"", b""]
    one.add(b"1 again", b"", b"")
    two.add(b"2 again", b"", b"")
    assert [parts for _, _, parts in drained] == [[b"2", b"", b"", b"2 again", b"", b""]]
    assert [parts for _, _, parts in outbox.drain()] == [[b"1 again", b"", b""]]


@given(st.lists(st.one_of(st.integers(0, 3), st.none()), max_size=60))
def test_every_cell_leaves_once_in_the_order_of_its_link(moves: list[int | None]) -> None:
    outbox = Outbox(lambda: None)
    links = [outbox.link(LinkId(i)) for i in range(4)]
    put: list[list[bytes]] = [[] for _ in links]
    got: list[list[bytes]] = [[] for _ in links]
    for number, move in enumerate([*moves, None]):
        if move is None:
            for link, cells, parts in outbox.drain():
                assert len(parts) == 3 * cells
                got[link] += parts[::3]
        else:
            name = number.to_bytes(4, "big")
            put[move].append(name)
            links[move].add(name, b"", b"")
    assert got == put


def test_padded_fills_with_zeros_only() -> None:
    assert padded([b"abc", b"", b"12345"], 5) == [b"abc\0\0", bytes(5), b"12345"]


def test_many_cells_at_once_are_like_one_after_the_other() -> None:
    woken = Woken()
    outbox = Outbox(woken)
    link = outbox.link(LinkId(1))
    link.add_all(b"h", [b"1", b"2"], b"p")
    link.add(b"h", b"3", b"p")
    assert woken.times == 1
    assert list(outbox.drain()) == [(1, 3, [b"h", b"1", b"p", b"h", b"2", b"p", b"h", b"3", b"p"])]
