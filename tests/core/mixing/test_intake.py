"""Cells of the link itself, and the end of circuits that were dropped."""

from __future__ import annotations

import pytest
from mixing_driver import cell
from phantomband.core.cell import LINK_CIRCUIT, Command, encode
from phantomband.core.ids import LinkId
from phantomband.core.mixing import intake as module
from phantomband.core.mixing.intake import Intake
from phantomband.core.mixing.timed import TimedMixing
from world import Seeded

LINK = LinkId(1)
OTHER = LinkId(2)
PAD = encode(LINK_CIRCUIT, Command.PAD)
DESTROY_ALL = encode(LINK_CIRCUIT, Command.DESTROY)
ROOM = 8


class Rig:
    def __init__(self) -> None:
        self.strategy = TimedMixing(1.0, ROOM, Seeded(1))
        self.intake = Intake(self.strategy)

    def add(self, link: LinkId, *cells: bytes) -> list[bytes]:
        return self.intake.add(link, list(cells), 10.5)

    def left(self) -> list[tuple[int, bytes]]:
        return sorted((link, c) for link, cells in self.strategy.release(11.0) for c in cells)


def destroy(circuit: int) -> bytes:
    return encode(circuit.to_bytes(4, "big"), Command.DESTROY)


def test_cells_of_the_link_pass_at_once_and_those_of_circuits_are_held() -> None:
    rig = Rig()
    assert rig.add(LINK, cell(1, 0), PAD, cell(2, 0), PAD) == [PAD, PAD]
    assert rig.left() == [(1, cell(1, 0)), (1, cell(2, 0))]


def test_the_end_of_all_circuits_forgets_what_came_before_it_and_only_that() -> None:
    rig = Rig()
    rig.add(LINK, cell(1, 0))
    rig.add(OTHER, cell(1, 0))
    assert rig.add(LINK, cell(2, 0), DESTROY_ALL, cell(3, 0)) == [DESTROY_ALL]
    assert rig.left() == [(1, cell(3, 0)), (2, cell(1, 0))]
    assert rig.intake.take_dropped() == []


def test_a_circuits_destroy_stays_behind_its_cells() -> None:
    rig = Rig()
    assert rig.add(LINK, cell(1, 0), cell(1, 1), destroy(1)) == []
    ((_, cells),) = rig.strategy.release(11.0)
    assert cells == [cell(1, 0), cell(1, 1), destroy(1)]


def test_a_dropped_circuit_is_ended_for_its_peer_and_what_still_comes_is_swallowed() -> None:
    rig = Rig()
    rig.add(LINK, *(cell(1, i) for i in range(ROOM + 1)))
    assert rig.intake.take_dropped() == [((LINK, b"\0\0\0\1"), destroy(1))]
    assert rig.intake.dropped == 1
    assert rig.add(LINK, cell(1, 9), cell(2, 0), cell(1, 10)) == []
    assert rig.add(OTHER, cell(1, 0)) == []
    assert rig.left() == [(1, cell(2, 0)), (2, cell(1, 0))]
    rig.add(LINK, cell(1, 11), destroy(1))
    assert rig.left() == []
    rig.add(LINK, cell(1, 0))
    assert rig.left() == [(1, cell(1, 0))], "the answer came: nothing is remembered any more"


def test_dropped_circuits_are_forgotten_with_their_link_and_with_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ENDED", 2)
    rig = Rig()

    def drop(link: LinkId, circuit: int) -> None:
        rig.add(link, *(cell(circuit, i) for i in range(ROOM + 1)))
        assert len(rig.intake.take_dropped()) == 1

    def swallows(link: LinkId, circuit: int) -> bool:
        rig.add(link, cell(circuit, 99))
        return not rig.left()

    drop(LINK, 1)
    drop(OTHER, 1)
    rig.add(LINK, DESTROY_ALL)
    assert not swallows(LINK, 1)
    assert swallows(OTHER, 1)
    drop(LINK, 2)
    drop(LINK, 3)
    assert not swallows(OTHER, 1), "the oldest is forgotten"
    assert swallows(LINK, 2)
    rig.intake.clear()
    assert not swallows(LINK, 2)


def test_clearing_leaves_nothing_held() -> None:
    rig = Rig()
    rig.add(LINK, cell(1, 0))
    rig.intake.clear()
    assert (rig.strategy.held, rig.strategy.deadline, rig.left()) == (0, None, [])
