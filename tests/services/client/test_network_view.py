"""The client's view: stored, never rolled back, refused when it is not certified."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from phantomband.core.errors import Refused, UserError
from phantomband.core.netdir.certified import verify_untrusted
from phantomband.core.netdir.requests import (
    Code,
    GetView,
    NotNewer,
    RefusedReply,
    ViewReply,
    decode_request_untrusted,
    encode_reply,
)
from phantomband_client.network_view import STATE_FILE, VIEW_FILE, NetworkView

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
    return NetworkView(GENESIS, tmp_path, clock)


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
    assert asked(view) == GetView(6)
    assert (tmp_path / VIEW_FILE).read_bytes() == VIEWS[6]
    assert json.loads((tmp_path / STATE_FILE).read_text()) == {"highest_epoch": 6}
    again = NetworkView(GENESIS, tmp_path, clock)
    assert epoch_of(again) == 6


def test_an_older_one_is_never_taken_even_after_a_restart_without_the_view(
    view: NetworkView, tmp_path: Path, clock: Clock
) -> None:
    view.take(reply(VIEWS[6]))
    with pytest.raises(Refused):
        view.take(reply(VIEWS[5]))
    assert epoch_of(view) == 6
    (tmp_path / VIEW_FILE).unlink()
    again = NetworkView(GENESIS, tmp_path, clock)
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
    assert "old" in view.warning
    clock.now = GENESIS.clock.stale_until(held.epoch)
    assert not view.usable()


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
def test_a_broken_state_file_is_as_none(tmp_path: Path, clock: Clock, state: str) -> None:
    (tmp_path / STATE_FILE).write_bytes(state.encode(errors="surrogateescape"))
    (tmp_path / VIEW_FILE).write_bytes(b"nonsense")
    view = NetworkView(GENESIS, tmp_path, clock)
    assert view.current is None
    assert view.take(reply(VIEWS[6]))
