"""The client's view: stored, never rolled back, refused when it is not certified."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from phantomband.core.errors import Refused, UserError
from phantomband.core.netdir.certified import CertifiedView, Freshness, verify_untrusted
from phantomband.core.netdir.changes import propose
from phantomband.core.netdir.replies import (
    Changes,
    Code,
    NotNewer,
    RefusedReply,
    ViewDiffReply,
    ViewReply,
    encode_reply,
)
from phantomband.core.netdir.requests import GetChanges, GetView, GetViewDiff, decode_request_untrusted
from phantomband.core.netdir.view_diff import make_diff
from phantomband.runtime.state_files import StateFiles
from phantomband_client.clock_check import ClockOff, duration
from phantomband_client.network_view import CHANGES_FILE, STATE_FILE, VIEW_FILE, NetworkView

MAKE = runpy.run_path(str(Path(__file__).parents[2] / "core" / "netdir" / "conftest.py"))["World"]()
GENESIS = MAKE.genesis(4)


def certified(epoch: int, signers: tuple[int, ...] = (0, 1, 2), relays: int = 3) -> bytes:
    view = MAKE.view(GENESIS, [MAKE.entry(i) for i in range(relays)], epoch)
    encoded: bytes = MAKE.certify(view, list(signers)).encode()
    return encoded


VIEWS = {epoch: certified(epoch) for epoch in (5, 6, 7)}


def reply(data: bytes) -> bytes:
    return encode_reply(ViewReply(data))


class Clock:
    now = float(GENESIS.clock.end(6)) + 1

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def view(tmp_path: Path, clock: Clock) -> NetworkView:
    return NetworkView(GENESIS, StateFiles(tmp_path), clock)


def epoch_of(view: NetworkView) -> int:
    return view.current.epoch if view.current is not None else 0


def asked(view: NetworkView) -> Any:
    return decode_request_untrusted(view.request())


def test_without_a_view_it_asks_for_any(view: NetworkView) -> None:
    assert view.current is None
    assert view.certified is None
    assert not view.usable()
    assert view.stale()
    assert asked(view) == GetView(0)


def test_a_certified_view_is_taken_and_stored(view: NetworkView, tmp_path: Path, clock: Clock) -> None:
    assert view.take(reply(VIEWS[6]))
    assert view.usable()
    assert not view.stale()
    assert view.certified is not None
    assert asked(view) == GetViewDiff(6, view.certified.digest)
    assert (tmp_path / VIEW_FILE).read_bytes() == VIEWS[6]
    assert json.loads((tmp_path / STATE_FILE).read_text()) == {"highest_epoch": 6}
    again = NetworkView(GENESIS, StateFiles(tmp_path), clock)
    assert epoch_of(again) == 6


def test_an_older_one_is_never_taken_even_after_a_restart_without_the_view(
    view: NetworkView, tmp_path: Path, clock: Clock
) -> None:
    view.take(reply(VIEWS[6]))
    with pytest.raises(Refused):
        view.take(reply(VIEWS[5]))
    assert epoch_of(view) == 6
    (tmp_path / VIEW_FILE).unlink()
    again = NetworkView(GENESIS, StateFiles(tmp_path), clock)
    assert again.current is None
    with pytest.raises(Refused):
        again.take(reply(VIEWS[5]))
    assert again.take(reply(VIEWS[6]))


def test_the_same_again_is_not_newer(view: NetworkView) -> None:
    assert view.take(reply(VIEWS[6]))
    assert not view.take(reply(VIEWS[6]))
    assert not view.take(encode_reply(NotNewer(6)))
    assert not view.take(encode_reply(RefusedReply(Code.BUSY, "busy")))


def test_a_newer_one_replaces_it(view: NetworkView, clock: Clock) -> None:
    view.take(reply(VIEWS[6]))
    clock.now = GENESIS.clock.end(7) + 1
    assert view.take(reply(VIEWS[7]))
    assert epoch_of(view) == 7


def changed(data: bytes) -> bytes:
    out = bytearray(data)
    out[-1] ^= 1
    return bytes(out)


WRONG = {
    "too few signatures": reply(certified(6, (0, 1))), "a forged signature": reply(changed(VIEWS[6])),
    "another network": reply(MAKE.certify(MAKE.view(MAKE.genesis(5), [], 6), [0, 1, 2, 3]).encode()),
    "nothing": b"", "no reply": b"\x42", "cut": reply(VIEWS[6])[:-1], "a request": b"\x01" + bytes(8),
}  # fmt: skip


@pytest.mark.parametrize("answer", WRONG.values(), ids=WRONG.keys())
def test_what_is_not_certified_is_refused_and_changes_nothing(view: NetworkView, tmp_path: Path, answer: bytes) -> None:
    with pytest.raises(Refused):
        view.take(answer)
    assert view.current is None
    assert not list(tmp_path.iterdir())


def test_a_view_ages(view: NetworkView, clock: Clock) -> None:
    view.take(reply(VIEWS[6]))
    held = view.current
    assert held is not None
    clock.now = held.fresh_until
    assert view.stale()
    assert view.usable()
    assert not view.warning
    clock.now = held.valid_until
    assert view.usable(), "24 epochs long, with a warning"
    assert "is old, 3 epochs" in view.warning
    assert view.age_epochs == 3
    assert view.freshness is Freshness.STALE
    clock.now = GENESIS.clock.stale_until(held.epoch)
    assert not view.usable()
    assert "not used any more" in view.warning


def test_it_is_good_for_24_epochs_after_a_restart_too(view: NetworkView, tmp_path: Path, clock: Clock) -> None:
    view.take(reply(VIEWS[6]))
    clock.now = float(GENESIS.clock.end(6) + 24 * GENESIS.clock.epoch_seconds - 1)
    again = NetworkView(GENESIS, StateFiles(tmp_path), clock)
    assert again.usable()
    assert "23 epochs" in again.warning
    clock.now += 1
    assert not NetworkView(GENESIS, StateFiles(tmp_path), clock).usable()


def diff_to(epoch: int, base: bytes) -> bytes:
    held, new = (CertifiedView.decode_untrusted(data) for data in (base, certified(epoch, relays=40)))
    diff = make_diff(held.view_bytes, new)
    assert diff is not None
    return encode_reply(ViewDiffReply(diff))


def test_a_difference_brings_the_newer_view(view: NetworkView, tmp_path: Path, clock: Clock) -> None:
    first = certified(6, relays=39)
    view.take(reply(first))
    clock.now = GENESIS.clock.end(7) + 1
    assert view.take(diff_to(7, first))
    assert not view.more_to_ask
    assert epoch_of(view) == 7
    assert (tmp_path / VIEW_FILE).read_bytes()[:300] == certified(7, relays=40)[:300]
    assert epoch_of(NetworkView(GENESIS, StateFiles(tmp_path), clock)) == 7


def test_a_difference_that_cannot_be_used_asks_for_the_whole_at_once(view: NetworkView, clock: Clock) -> None:
    view.take(reply(VIEWS[6]))
    clock.now = GENESIS.clock.end(7) + 1
    assert not view.take(diff_to(7, certified(6, relays=39)))
    assert view.more_to_ask
    assert asked(view) == GetView(6)
    assert view.take(reply(VIEWS[7]))
    assert not view.more_to_ask


def test_a_directory_that_knows_no_differences_is_asked_for_the_whole_next(view: NetworkView) -> None:
    view.take(reply(VIEWS[6]))
    assert not view.take(encode_reply(RefusedReply(Code.MALFORMED, "")))
    assert asked(view) == GetView(6)
    assert not view.take(encode_reply(NotNewer(6)))
    assert isinstance(asked(view), GetViewDiff)


def test_a_view_of_another_set_is_taken_once_the_changes_lead_to_it(
    view: NetworkView, tmp_path: Path, clock: Clock
) -> None:
    view.take(reply(VIEWS[6]))
    clock.now = GENESIS.clock.end(7) + 1
    change = propose(GENESIS, 1, 7, [GENESIS.directories[3].node_id], [])
    for index in range(3):
        change = change.signed_by(index, MAKE.key(index))
    smaller = GENESIS.with_directories(GENESIS.directories[:3])
    new = MAKE.certify(MAKE.view(smaller, [MAKE.entry(i) for i in range(3)], 7), [0, 1, 2]).encode()
    assert not view.take(reply(new))
    assert view.more_to_ask
    assert asked(view) == GetChanges(1)
    assert not view.take(encode_reply(Changes((change.encode(),))))
    assert view.more_to_ask
    assert view.take(reply(new))
    assert (tmp_path / CHANGES_FILE).exists()
    assert epoch_of(NetworkView(GENESIS, StateFiles(tmp_path), clock)) == 7, "the changes are stored"


def test_changes_that_lead_nowhere_are_asked_for_once(view: NetworkView, clock: Clock) -> None:
    smaller = GENESIS.with_directories(GENESIS.directories[:3])
    new = MAKE.certify(MAKE.view(smaller, [], 6), [0, 1, 2]).encode()
    view.take(reply(new))
    view.take(encode_reply(Changes(())))
    with pytest.raises(Refused, match="not known here"):
        view.take(reply(new))
    assert not view.more_to_ask


def test_a_slow_clock_is_named_with_the_least_error(view: NetworkView, clock: Clock) -> None:
    clock.now = GENESIS.clock.end(6) - 3 * 3600.0
    with pytest.raises(ClockOff, match=r"this machine's clock is behind by at least 3 hours.*Set the clock"):
        view.take(reply(VIEWS[6]))
    assert view.current is None


def test_a_fast_clock_is_named_as_one_of_two_causes(view: NetworkView, clock: Clock) -> None:
    clock.now = float(GENESIS.clock.stale_until(6) + 3 * 86_400)
    with pytest.raises(ClockOff, match=r"Either that clock is ahead by at least so much, or .*24 epochs"):
        view.take(reply(VIEWS[6]))


def test_only_a_quorum_says_what_time_it_is(view: NetworkView, clock: Clock) -> None:
    clock.now = GENESIS.clock.end(6) - 3 * 3600.0
    for data in (certified(6, (0, 1)), changed(VIEWS[6])):
        with pytest.raises(Refused) as caught:
            view.take(reply(data))
        assert not isinstance(caught.value, ClockOff)


def test_the_bounds_of_the_clock(view: NetworkView, clock: Clock) -> None:
    """Behind by an epoch or a minute, ahead by 23 epochs: that far everything works."""
    clock.now = float(GENESIS.clock.end(6) - 60)
    assert view.take(reply(VIEWS[6]))
    clock.now = float(GENESIS.clock.end(6) + 23 * GENESIS.clock.epoch_seconds)
    assert view.usable()


def test_durations_are_for_people() -> None:
    assert [duration(s) for s in (0.2, 90, 120, 7199, 7200, 3 * 86_400)] == [
        "1 seconds", "90 seconds", "2 minutes", "120 minutes", "2 hours", "3 days",
    ]  # fmt: skip


def test_two_views_of_one_epoch_stop_the_client_with_a_proof(view: NetworkView, tmp_path: Path) -> None:
    view.take(reply(VIEWS[6]))
    with pytest.raises(UserError, match="fork-6"):
        view.take(reply(certified(6, relays=2)))
    proof = [(tmp_path / "fork-6" / name).read_bytes() for name in ("first", "second")]
    first, second = (verify_untrusted(data, GENESIS, Clock.now, 0) for data in proof)
    assert first.view.epoch == second.view.epoch == 6
    assert first.digest != second.digest


@pytest.mark.parametrize(
    "state", ["", "{", "[]", "3", '{"highest_epoch": "x"}', '{"highest_epoch": null}', "{}", "\udcff"]
)
def test_a_damaged_state_file_takes_nobody_back_to_an_older_epoch(tmp_path: Path, clock: Clock, state: str) -> None:
    assert NetworkView(GENESIS, StateFiles(tmp_path), clock).take(reply(VIEWS[7]))
    damage = state.encode(errors="surrogateescape")
    (tmp_path / STATE_FILE).write_bytes(damage)
    (tmp_path / VIEW_FILE).write_bytes(b"nonsense")
    view = NetworkView(GENESIS, StateFiles(tmp_path), clock)
    assert view.current is None, "a view can be had again"
    with pytest.raises(Refused):
        view.take(reply(VIEWS[6]))
    for name in (STATE_FILE, f"{STATE_FILE}.copy"):
        (tmp_path / name).write_bytes(damage)
    with pytest.raises(UserError, match=r"state\.json: is damaged"):
        NetworkView(GENESIS, StateFiles(tmp_path), clock)


def test_an_epoch_from_the_future_is_said_with_what_to_do(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / STATE_FILE).write_text('{"highest_epoch": 99999999}')
    view = NetworkView(GENESIS, StateFiles(tmp_path), clock)
    with pytest.raises(Refused):
        view.take(reply(VIEWS[6]))
    assert "Set the clock" in view.warning
    assert f"remove {STATE_FILE} and {STATE_FILE}.copy in {tmp_path}" in view.warning
