"""What loops say of relays."""

from __future__ import annotations

import pytest
from phantomband.core.ids import NodeId
from phantomband.core.netdir import measures as module
from phantomband.core.netdir.measures import Measures

A, B, C = (NodeId(bytes((i,)) * 32) for i in range(3))


def test_a_loop_counts_for_each_relay_that_it_passed() -> None:
    measures = Measures()
    measures.loop_returned([A, B], 1.0)
    measures.loop_returned([A, C], 2.0)
    measures.loops_lost([B, C], 3)
    assert [(m.returned, m.lost) for m in (measures.by_node[n] for n in (A, B, C))] == [(2, 0), (1, 3), (1, 3)]
    assert measures.by_node[A].delay == pytest.approx(1.1)
    assert measures.by_node[C].delay == 2.0
    assert (measures.returned, measures.lost) == (2, 3)


def test_the_relay_measured_first_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_NODES", 2)
    measures = Measures()
    for node in (A, B, C):
        measures.loop_returned([node], 1.0)
    assert list(measures.by_node) == [B, C]


def test_quality_is_the_share_that_came_back_and_few_loops_say_little() -> None:
    measures = Measures()
    assert measures.quality(A) == 1.0
    measures.loops_lost([A], 1)
    assert measures.quality(A) > 0.9
    measures.add(A, 0, 999, 0.0)
    assert measures.quality(A) < 0.03


def test_what_is_old_counts_less() -> None:
    measures = Measures()
    measures.add(A, 100, 100, 1.0)
    measures.fade(module.FADE_SECONDS)
    assert (measures.by_node[A].returned, measures.by_node[A].lost) == (50, 50)


def test_what_was_taken_is_forgotten_but_stays_counted() -> None:
    measures = Measures()
    measures.loop_returned([A], 1.0)
    assert list(measures.take()) == [A]
    assert measures.take() == {}
    assert measures.returned == 1
