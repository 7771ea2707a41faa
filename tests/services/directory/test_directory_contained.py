"""An error that nobody expected ends one peer's request, or begins one loop anew; never the directory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from phantomband.core.errors import Bug, Forged, Malformed, PhantomBandError, Refused
from phantomband.core.netdir import requests
from phantomband.core.netdir.replies import RefusedReply, decode_reply_untrusted

ERRORS = [PhantomBandError("x"), Malformed("x"), Forged("x"), Refused("x"), Bug("x"), ValueError("x"), KeyError("x"),
          OverflowError("x"), ExceptionGroup("several", [RuntimeError("x")])]  # fmt: skip

PLACES: dict[str, Callable[[Any], tuple[Any, str]]] = {
    "votes": lambda service: (service._council.voting, "tick"),
    "ballots of others": lambda service: (service._council.voting, "handle"),
    "answers with views": lambda service: (service._desk, "take_untrusted"),
    "a round of gossip": lambda service: (service._spread._gossip, "round_with"),
    "records that gossip brings": lambda service: (service._intake, "take_all_untrusted"),
    "the table's steps": lambda service: (service._spread._table, "_step"),
    "the table's answers": lambda service: (service._spread._table, "_answer_of"),
    "who is tried": lambda service: (service._reachability, "take_due"),
    "who was reached": lambda service: (service._reachability, "succeeded"),
    "what a try says": lambda service: (service._spread._reach, "_reaches"),
    "upkeep": lambda service: (service._pool, "prune"),
    "our descriptor": lambda service: (service._announcer, "_renew"),
    "descriptors that come": lambda service: (service._intake, "take_untrusted"),
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_no_error_in_a_loop_or_task_ends_the_directory(network_of: Any, virtual: Any, place: Any) -> None:
    """One directory of four meets each error once, wherever it may come from, and takes part in the next epochs."""

    async def main() -> None:
        network = network_of(4)
        network.start(*range(5))
        await network.run_to(10)
        service = network.nodes[0].service
        thing, name = place(service)
        true, waiting = getattr(thing, name), list(ERRORS)

        def broken(*arguments: Any, **named: Any) -> Any:
            if waiting:
                raise waiting.pop()
            return true(*arguments, **named)

        setattr(thing, name, broken)
        await network.run_to(13)
        waiting.clear()
        await network.run_to(15)
        assert not network.nodes[0].task.done()
        assert service.status().view_epoch == 15
        assert 15 in network.nodes[0].store.memory.voted

    virtual(main())


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_no_request_of_a_peer_raises(network_of: Any, virtual: Any, error: Exception) -> None:
    async def main() -> None:
        network = network_of(1)
        network.start(0)
        await network.run_to(2)
        service = network.nodes[0].service

        def broken(*arguments: Any) -> Any:
            raise error

        service._answers._serve = broken
        reply = decode_reply_untrusted(service.answer(requests.encode_request(requests.GetView(0)), b"", b""))
        assert isinstance(reply, RefusedReply)
        assert service.status().bugs == (not isinstance(error, Malformed | Refused))

    virtual(main())
