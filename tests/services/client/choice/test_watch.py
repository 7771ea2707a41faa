"""When a session leaves a link that is blocked or throttled, and when it stays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from phantomband.core.errors import Refused
from phantomband.runtime.state_files import StateFiles
from phantomband_client.choice.chooser import Chooser
from phantomband_client.choice.memory import TransportMemory
from phantomband_client.choice.watch import (
    ASK_SECONDS,
    LAST_CHANCE_SECONDS,
    OFFLINE_SECONDS,
    PATIENCE_SECONDS,
    REST_SECONDS,
    LinkWatch,
)
from virtual import run_virtual
from world import Seeded


class Link:
    """Answers after `answers` seconds; None: it is silent."""

    def __init__(self, transport: str, answers: float | None, streams: int = 1) -> None:
        self.transport, self.answers, self.streams = transport, answers, streams
        self.up, self._unanswered = True, 0.0
        self.building = 0
        self.asked = 0

    @property
    def unanswered(self) -> float:
        return 100.0 if self.answers is None else self._unanswered

    async def answer_time(self, request: bytes, patience: float) -> float | None:
        self.asked += 1
        if self.answers is None or self.answers > patience:
            await asyncio.sleep(patience)
            return None
        await asyncio.sleep(self.answers)
        return self.answers

    def close(self) -> None:
        self.up = False


class Session:
    def __init__(self, link: Link, other: Link | None) -> None:
        self.link: Any = link
        self.other, self.dials = other, 0
        memory = TransportMemory(StateFiles(Path("/nowhere")), lambda: 1e9, lambda salt: "here", Seeded(1))
        self.chooser = Chooser(b"n" * 32, {}, memory, lambda: 1e9)
        self.watch = LinkWatch(self, self.chooser)

    async def elsewhere(self, link: Any, *, other_nodes: bool) -> Any:
        self.dials += 1
        if self.other is None:
            raise Refused("nothing else works")
        return self.other

    def change_to(self, better: Any, link: Any) -> None:
        self.link = better


def watched(session: Session, seconds: float, then: Callable[[], Coroutine[Any, Any, None]] | None = None) -> None:
    async def main() -> None:
        task = asyncio.create_task(session.watch.run())
        await asyncio.sleep(seconds)
        if then is not None:
            await then()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run_virtual(main())


def test_a_good_link_is_asked_now_and_then_and_kept() -> None:
    session = Session(link := Link("tls", 0.1), Link("quic", 0.1))
    watched(session, 10 * ASK_SECONDS)
    assert session.link is link
    assert 8 <= link.asked <= 11
    assert session.dials == 0


def test_without_streams_nothing_is_asked() -> None:
    session = Session(link := Link("tls", None, streams=0), Link("quic", 0.1))
    watched(session, 100)
    assert link.asked == 0


def test_a_silent_link_is_replaced_and_ends_if_it_stays_silent() -> None:
    session = Session(link := Link("tls", None), other := Link("quic", 0.1))
    watched(session, 5 + PATIENCE_SECONDS)
    assert session.link is other
    assert link.up, "its streams have a last chance"
    assert session.chooser.memory.pausing("tls")
    session = Session(link := Link("tls", None), Link("quic", 0.1))
    watched(session, 10 + 2 * PATIENCE_SECONDS + LAST_CHANCE_SECONDS)
    assert not link.up


def test_a_link_that_comes_back_keeps_its_streams() -> None:
    session = Session(link := Link("tls", None), Link("quic", 0.1))

    async def back() -> None:
        link.answers = 0.1
        await asyncio.sleep(100)

    watched(session, 5 + PATIENCE_SECONDS, back)
    assert link.up
    assert session.link is not link


def test_a_throttled_link_is_left_to_its_streams() -> None:
    session = Session(link := Link("tls", 4.0), other := Link("websocket", 0.5))
    watched(session, 60)
    assert session.link is other
    assert link.up
    assert "takes 4.0 s to answer" in session.chooser.events[0].what


def test_a_link_so_slow_that_no_answer_comes_is_not_a_silent_one() -> None:
    session = Session(link := Link("tls", 1000.0), other := Link("websocket", 0.5))
    watched(session, 300)
    assert session.link is other
    assert link.up, "its streams go on"


def test_when_everything_is_slow_nothing_changes() -> None:
    session = Session(link := Link("tls", 4.0), other := Link("websocket", 2.0))
    watched(session, 60)
    assert session.link is link
    assert not other.up
    assert not session.chooser.memory.pausing("tls")


def test_when_nothing_works_it_is_looked_for_ever_more_rarely() -> None:
    session = Session(Link("tls", None), None)
    watched(session, 3600)
    assert session.link.transport == "tls"
    assert 5 < session.dials < 3600 / REST_SECONDS[0] / 8


def test_silence_after_something_was_sent_brings_the_question_forward() -> None:
    session = Session(link := Link("tls", 0.1), None)

    async def falls_silent() -> None:
        before = link.asked
        link._unanswered = 4.0
        await asyncio.sleep(4)
        assert link.asked > before

    watched(session, 2.5, falls_silent)


def test_on_a_padded_link_questions_and_dials_do_not_tell_whether_streams_are_open() -> None:
    """Neither the guard nor who drops packets for a moment learns it."""
    for answers in (0.1, 4.0, None):
        seen = []
        for streams in (0, 1):
            session = Session(link := Link("tls", answers, streams), Link("quic", 0.1))
            session.watch = LinkWatch(session, session.chooser, always=True)
            watched(session, 100)
            seen.append((link.asked, session.dials, link.up, session.link.transport))
        assert seen[0] == seen[1]
        assert seen[0][0] > 0


def test_after_a_suspend_a_link_without_streams_is_asked_once() -> None:
    session = Session(link := Link("tls", 0.1, streams=0), Link("quic", 0.1))

    async def suspended() -> None:
        assert link.asked == 0
        session.watch.suspect()
        await asyncio.sleep(100)

    watched(session, 50, suspended)
    assert link.asked == 1


def test_after_a_suspend_a_dead_link_without_streams_is_replaced() -> None:
    session = Session(Link("tls", None, streams=0), other := Link("quic", 0.1, streams=0))

    async def suspended() -> None:
        session.watch.suspect()
        await asyncio.sleep(PATIENCE_SECONDS + 3)

    watched(session, 50, suspended)
    assert session.link is other


def test_a_dead_link_on_which_circuits_are_built_is_replaced_without_a_stream() -> None:
    session = Session(link := Link("tls", None, streams=0), other := Link("quic", 0.1, streams=0))
    link.building = 1
    watched(session, 5 + PATIENCE_SECONDS)
    assert session.link is other


def test_when_the_network_comes_back_nobody_waits_for_a_dead_link() -> None:
    """A cut of 20 s, in which nobody could be reached: then the next way is tried soon, not after a long rest."""
    session = Session(Link("tls", None), None)

    async def back() -> None:
        session.other = Link("quic", 0.1)
        await asyncio.sleep(4 * OFFLINE_SECONDS + 1)

    watched(session, 20, back)
    assert session.link is session.other
