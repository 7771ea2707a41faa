"""Differences of views for whoever holds one of the last ones; the whole for everybody else."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
from phantomband.core.netdir.certified import CertifiedView
from phantomband.core.netdir.genesis_file import parse_genesis
from phantomband.core.netdir.replies import (
    GenesisReply,
    NotNewer,
    ViewDiffReply,
    ViewReply,
    decode_reply_untrusted,
)
from phantomband.core.netdir.requests import GetGenesis, GetView, GetViewDiff, encode_request
from phantomband.core.netdir.view_diff import apply_untrusted
from phantomband_directory import view_archive
from phantomband_directory.view_archive import KEPT, KEPT_SMALL, ViewArchive

MAKE: Any = runpy.run_path(str(Path(__file__).parents[2] / "core" / "netdir" / "conftest.py"))["World"]()
GENESIS = MAKE.genesis(4)


def certified(epoch: int, first: int | None = None) -> CertifiedView:
    """30 relays, one other in each epoch."""
    start = epoch if first is None else first
    view = MAKE.view(GENESIS, [MAKE.entry(i) for i in range(start, start + 30)], epoch)
    return CertifiedView(view, view.encode(), tuple((i, b"s" * 3373) for i in range(3)))


VIEWS = {epoch: certified(epoch) for epoch in range(1, 40)}


def asked(archive: ViewArchive, base: CertifiedView, newest: CertifiedView) -> Any:
    return archive.answer(GetViewDiff(base.view.epoch, base.digest), newest, newest.encode())


def test_a_difference_leads_from_any_view_that_is_kept_to_the_newest() -> None:
    archive = ViewArchive()
    for epoch in (1, 2, 3):
        archive.note(VIEWS[epoch])
    for epoch in (1, 2):
        reply = asked(archive, VIEWS[epoch], VIEWS[3])
        assert isinstance(reply, ViewDiffReply)
        assert apply_untrusted(VIEWS[epoch].view_bytes, reply.diff) == VIEWS[3].encode()
    assert asked(archive, VIEWS[3], VIEWS[3]) == NotNewer(3)


def test_whoever_holds_something_else_gets_the_whole() -> None:
    archive = ViewArchive()
    archive.note(VIEWS[2])
    assert asked(archive, VIEWS[1], VIEWS[3]) == ViewReply(VIEWS[3].encode())
    assert asked(archive, certified(3, first=9), VIEWS[3]) == ViewReply(VIEWS[3].encode()), "a fork is shown"
    assert asked(archive, VIEWS[9], VIEWS[3]) == NotNewer(3)
    assert archive.answer(GetViewDiff(1, bytes(32)), None, None) == NotNewer(0)


def test_differences_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[bytes] = []
    plain = view_archive.make_diff

    def count(held: bytes, new: CertifiedView) -> bytes | None:
        made.append(held)
        return plain(held, new)

    monkeypatch.setattr(view_archive, "make_diff", count)
    archive = ViewArchive()
    archive.note(VIEWS[1])
    for _ in range(3):
        asked(archive, VIEWS[1], VIEWS[2])
    assert len(made) == 1
    asked(archive, VIEWS[1], VIEWS[3])
    assert len(made) == 2


def test_only_the_last_views_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit, kept in ((view_archive.SMALL_BYTES, KEPT_SMALL), (10, KEPT)):
        monkeypatch.setattr(view_archive, "SMALL_BYTES", limit)
        archive = ViewArchive()
        for epoch in range(1, 36):
            archive.note(VIEWS[epoch])
        assert len(archive._views) == kept
        oldest = 36 - kept
        assert isinstance(asked(archive, VIEWS[oldest], VIEWS[35]), ViewDiffReply)
        assert isinstance(asked(archive, VIEWS[oldest - 1], VIEWS[35]), ViewReply)
        assert len(archive._diffs) == 1


def test_a_directory_answers_with_differences_and_its_genesis(network_of: Any, virtual: Any) -> None:
    async def main() -> None:
        network = network_of(4)
        network.start(*range(16))
        await network.run_to(4)
        service = network.nodes[0].service

        def answer(request: Any) -> Any:
            return decode_reply_untrusted(service.answer(encode_request(request), b""))

        assert answer(GetView(0)) == ViewReply(service.view.encode())
        held = service.view
        await network.run_to(held.view.epoch + 1)
        assert service.view.view.epoch > held.view.epoch
        reply = answer(GetViewDiff(held.view.epoch, held.digest))
        assert isinstance(reply, ViewDiffReply)
        assert apply_untrusted(held.view_bytes, reply.diff) == service.view.encode()
        genesis = answer(GetGenesis())
        assert isinstance(genesis, GenesisReply)
        assert parse_genesis(genesis.json, "x") == network.genesis

    virtual(main())
