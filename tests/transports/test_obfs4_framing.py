"""Frames and what leaves when: any cut, any fault, lengths as the seed has them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phantomband.core.errors import Bug, Forged, Malformed
from phantomband.transports.obfs4 import lengths
from phantomband.transports.obfs4.framing import KEY_BYTES, MAX_PAYLOAD, SEGMENT_BYTES, TYPE_SEED, Opener, Sealer
from phantomband.transports.obfs4.shaper import IatMode, Shaper

KEY = random.Random(1).randbytes(KEY_BYTES)
SEED = random.Random(2).randbytes(24)


def opener(seed: int = 0) -> Opener:
    return Opener(KEY, random.Random(seed).randbytes)


@settings(deadline=None)
@given(parts=st.lists(st.binary(max_size=5000), max_size=5), cuts=st.lists(st.integers(1, 3000), max_size=20))
def test_what_was_sealed_is_opened_whatever_the_cut(parts: list[bytes], cuts: list[int]) -> None:
    sealer = Sealer(KEY)
    frames = b"".join(bytes(sealer.seal(part)) for part in parts)
    there, out = opener(), b""
    for cut in cuts:
        out += there.open_untrusted(frames[:cut])
        frames = frames[cut:]
    out += there.open_untrusted(frames)
    assert out == b"".join(parts)
    assert not there.inside_frame


@settings(deadline=None)
@given(size=st.integers(1, 6000), at=st.integers(0, 10**6), bit=st.integers(0, 7), seed=st.integers(0, 2**16))
def test_a_changed_bit_ends_it(size: int, at: int, bit: int, seed: int) -> None:
    """At once, or, where the length became longer, when that much has come."""
    sealer = Sealer(KEY)
    frames = bytearray(sealer.seal(bytes(size)))
    frames[at % len(frames)] ^= 1 << bit
    with pytest.raises(Malformed):
        opener(seed).open_untrusted(bytes(frames) + bytes(2 * SEGMENT_BYTES))


@settings(deadline=None)
@given(data=st.binary(max_size=4000), seed=st.integers(0, 2**16))
def test_any_bytes_are_waited_for_or_refused(data: bytes, seed: int) -> None:
    there = opener(seed)
    try:
        assert there.open_untrusted(data) == b""
    except Malformed:
        return
    assert len(data) < SEGMENT_BYTES


def test_a_length_out_of_range_fails_only_when_a_frame_would_be_complete() -> None:
    frame = bytearray(Sealer(KEY).packet(0, b"x"))
    frame[0] ^= 0xFF
    failed = set()
    for seed in range(40):
        there = opener(seed)
        for count in range(1, 2 * SEGMENT_BYTES):
            try:
                there.open_untrusted(bytes(frame[count - 1 : count] or b"\0"))
            except Forged:
                failed.add(count)
                break
    assert len(failed) > 20
    assert min(failed) >= 2 + 16
    assert max(failed) <= SEGMENT_BYTES


@pytest.mark.parametrize("frame", ["short header", "long payload"])
def test_a_packet_that_does_not_fit_its_frame_is_malformed(frame: str) -> None:
    from nacl.bindings import crypto_secretbox

    sealer = Sealer(KEY)
    packet = {"short header": b"\0\0", "long payload": b"\0\0\5abcd"}[frame]
    box = crypto_secretbox(packet, KEY[32:48] + (1).to_bytes(8, "big"), KEY[:32])
    mask = int.from_bytes(sealer._masks.block()[:2], "big")
    with pytest.raises(Malformed, match="shorter"):
        opener().open_untrusted((len(box) ^ mask).to_bytes(2, "big") + box)


def test_unknown_packets_and_padding_are_dropped_and_a_seed_is_kept() -> None:
    sealer, there = Sealer(KEY), opener()
    frames = sealer.packet(7, b"of a later version", 9) + sealer.packet(0, b"", 100) + sealer.packet(0, b"ab", 3)
    assert there.open_untrusted(frames) == b"ab"
    assert there.seed is None
    assert there.open_untrusted(sealer.packet(TYPE_SEED, b"short") + sealer.packet(TYPE_SEED, SEED)) == b""
    assert there.seed == SEED


def test_a_counter_that_is_used_up_ends_it() -> None:
    sealer = Sealer(KEY)
    sealer._counter = 2**64 - 1
    assert sealer.packet(0, b"the last")
    with pytest.raises(Bug):
        sealer.packet(0, b"x")
    with pytest.raises(Bug):
        sealer.seal(bytes(MAX_PAYLOAD))


def test_a_table_is_its_seeds() -> None:
    first, again, other = (lengths.lengths(seed) for seed in (SEED, SEED, SEED[::-1]))
    assert first.values == again.values != other.values
    assert 1 <= len(first.values) <= 100
    assert all(0 <= value <= SEGMENT_BYTES for value in first.values)
    assert all(0 <= value <= 100 for value in lengths.delays(SEED).values)
    dice = random.Random(3)
    drawn = {first.sample(dice.randbytes) for _ in range(20_000)}
    assert drawn <= set(first.values)
    assert len(drawn) > 0.8 * len(first.values)


@given(burst=st.integers(0, 40_000), target=st.integers(0, SEGMENT_BYTES))
def test_padding_reaches_its_target_where_a_packet_fits(burst: int, target: int) -> None:
    added = lengths.padding(burst, target)
    total = burst + sum(21 + count for count in added)
    assert all(0 <= count <= MAX_PAYLOAD for count in added)
    gap = (target - burst) % SEGMENT_BYTES
    if len(added) == 2:
        assert 0 < gap <= 21
        assert (total - target) % SEGMENT_BYTES == 21
    else:
        assert (total - target) % SEGMENT_BYTES == 0


@pytest.mark.parametrize("mode", list(IatMode))
def test_every_mode_carries_all_in_segments_of_the_table(mode: IatMode) -> None:
    dice = random.Random(4)
    shaper = Shaper(Sealer(KEY), mode, SEED, dice.randbytes)
    table = set(lengths.lengths(SEED).values)
    there, out, sent = opener(), b"", b""
    for size in (1, 500, 1427, 1428, 32_768):
        data = dice.randbytes(size)
        sent += data
        held = shaper.burst(data)
        pieces = [] if mode is not IatMode.OFF else [bytes(held)]
        while held and mode is not IatMode.OFF:
            pieces.append(shaper.segment(held))
            assert 0 <= shaper.delay() <= 0.01
        if mode is IatMode.PARANOID:
            assert {len(piece) for piece in pieces} <= table
        else:
            tail = len(b"".join(pieces)) % SEGMENT_BYTES
            assert {tail, (tail - 21) % SEGMENT_BYTES} & {value % SEGMENT_BYTES for value in table}
        if mode is IatMode.SEGMENTS:
            assert {len(piece) for piece in pieces[:-1]} <= {SEGMENT_BYTES}
        out += b"".join(there.open_untrusted(piece) for piece in pieces)
    assert out == sent
