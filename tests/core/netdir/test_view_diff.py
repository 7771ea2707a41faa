"""Differences of views: they lead to exactly the bytes that were signed, or are malformed."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from phantomband.core.errors import Malformed
from phantomband.core.netdir.certified import CertifiedView, verify_untrusted
from phantomband.core.netdir.replies import (
    Code,
    NotNewer,
    RefusedReply,
    ViewDiffReply,
    ViewReply,
    decode_reply_untrusted,
    encode_reply,
)
from phantomband.core.netdir.requests import GetView, GetViewDiff
from phantomband.core.netdir.view import HEADER_BYTES, MAX_ENTRIES
from phantomband.core.netdir.view_diff import apply_untrusted, certified_of, make_diff, newer_request
from phantomband.core.wire import u32

MAKE: Any = runpy.run_path(str(Path(__file__).with_name("conftest.py")))["World"]()
GENESIS = MAKE.genesis(4)
SIGNATURE = b"s" * 3373


def certified(entries: list[Any], epoch: int = 5) -> CertifiedView:
    """With signatures that nobody checks."""
    view = MAKE.view(GENESIS, entries, epoch)
    return CertifiedView(view, view.encode(), tuple((i, SIGNATURE) for i in range(3)))


def entries(weights: dict[int, int]) -> list[Any]:
    return [MAKE.entry(i, weight=weight) for i, weight in weights.items()]


views = st.dictionaries(st.integers(0, 60), st.integers(0, 3), max_size=40)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=200)
@given(before=views, after=views)
def test_any_view_to_any_other(before: dict[int, int], after: dict[int, int]) -> None:
    held, new = certified(entries(before)), certified(entries(after), 6)
    diff = make_diff(held.view_bytes, new)
    if diff is not None:
        assert len(diff) < len(new.encode())
        assert apply_untrusted(held.view_bytes, diff) == new.encode()


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_any_bytes_give_a_view_or_malformed(data: st.DataObject) -> None:
    held, new = certified(entries(dict.fromkeys(range(8), 1))), certified(entries(dict.fromkeys(range(2, 10), 1)), 6)
    good = make_diff(held.view_bytes, new)
    assert good is not None
    changed = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    raw = bytes(changed[: data.draw(st.integers(0, len(changed)))])
    try:
        out = apply_untrusted(held.view_bytes, raw)
    except Malformed:
        return
    assert isinstance(out, bytes)


@settings(deadline=None)
@given(raw=st.binary(max_size=400))
def test_noise_is_malformed(raw: bytes) -> None:
    with pytest.raises(Malformed):
        apply_untrusted(certified(entries({1: 1})).view_bytes, raw)


def test_a_real_one_verifies(world: Any) -> None:
    genesis = world.genesis(4)
    now = genesis.clock.end(6) + 1.0
    old = world.certify(world.view(genesis, [world.entry(i) for i in range(30)], 5), [0, 1, 2])
    made = world.view(genesis, [world.entry(i, weight=7 if i == 9 else 100 + i) for i in range(2, 33)], 6)
    new = world.certify(made, [1, 2, 3])
    diff = make_diff(old.view_bytes, new)
    assert diff is not None
    assert verify_untrusted(apply_untrusted(old.view_bytes, diff), genesis, now, 5) == new


def parts() -> tuple[bytes, bytes, bytes, bytes]:
    """(held view, a good difference's start, removed and added counts and lists, its end)."""
    held, new = certified(entries(dict.fromkeys(range(20), 1))), certified(entries(dict.fromkeys(range(2, 22), 1)), 6)
    diff = make_diff(held.view_bytes, new)
    assert diff is not None
    at = 1 + 32 + HEADER_BYTES
    return held.view_bytes, diff[:at], diff[at : -1 - 3 * 3374], diff[-1 - 3 * 3374 :]


def test_its_layout() -> None:
    _, start, lists, tail = parts()
    assert start[0] == 1
    assert lists[:4] == u32(20)
    assert lists[4:8] == u32(2)
    assert lists[16:20] == u32(2)
    assert tail == b"\3" + b"".join(bytes((i,)) + SIGNATURE for i in range(3))


WRONG = {
    "another version": lambda s, r: b"\2" + s[1:] + r,
    "another base": lambda s, r: s[:1] + bytes(32) + s[33:] + r,
    "too many entries": lambda s, r: s + u32(MAX_ENTRIES + 1) + r[4:],
    "a count that does not fit": lambda s, r: s + u32(21) + r[4:],
    "too many removed": lambda s, r: s + r[:4] + u32(MAX_ENTRIES + 1) + r[8:],
    "removed twice": lambda s, r: s + r[:8] + r[8:12] + r[8:12] + r[16:],
    "removed in disorder": lambda s, r: s + r[:8] + r[12:16] + r[8:12] + r[16:],
    "removed outside": lambda s, r: s + r[:12] + u32(20) + r[16:],
    "added outside": lambda s, r: s + r[:20] + u32(20) + r[24:],
    "cut": lambda s, r: (s + r)[:-1],
    "empty": lambda s, r: b"",
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_what_breaks_the_layout_is_malformed(wrong: Any) -> None:
    held, start, lists, _ = parts()
    with pytest.raises(Malformed):
        apply_untrusted(held, wrong(start, lists))


def test_of_a_thousand_relays_a_twentieth_changed() -> None:
    before = dict.fromkeys(range(1000), 1)
    after = {i: 2 if i % 20 == 0 else 1 for i in range(1000)}
    held, new = certified(entries(before)), certified(entries(after), 6)
    diff = make_diff(held.view_bytes, new)
    assert diff is not None
    whole, size, signatures = len(new.encode()), len(diff), 3 * 3374
    print(f"whole {whole:,} bytes, difference {size:,}, of which signatures {signatures:,}")
    assert size - signatures < 0.08 * (whole - signatures)


def test_a_difference_that_saves_nothing_is_not_made() -> None:
    held, new = certified(entries(dict.fromkeys(range(20), 1))), certified(entries(dict.fromkeys(range(20), 2)), 6)
    assert make_diff(held.view_bytes, new) is None


def test_what_is_asked_and_what_is_taken() -> None:
    held, new = certified(entries(dict.fromkeys(range(20), 1))), certified(entries(dict.fromkeys(range(1, 21), 1)), 6)
    assert newer_request(None) == GetView(0)
    assert newer_request(held) == GetViewDiff(5, held.digest)
    diff = make_diff(held.view_bytes, new)
    assert diff is not None
    reply = decode_reply_untrusted(encode_reply(ViewDiffReply(diff)))
    assert certified_of(reply, held) == new.encode()
    assert certified_of(reply, None) is None
    assert certified_of(ViewReply(b"x"), None) == b"x"
    assert certified_of(NotNewer(5), held) is None
    assert certified_of(RefusedReply(Code.BUSY, ""), held) is None
    with pytest.raises(Malformed):
        certified_of(reply, new)
