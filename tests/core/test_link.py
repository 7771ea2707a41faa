"""The link machine: both patterns, any split of the bytes, every flipped bit, rekeying, vectors."""

from __future__ import annotations

import json
import random as _random
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phantomband.core.cell import CELL_BYTES
from phantomband.core.crypto.kem import encapsulate_untrusted
from phantomband.core.errors import Bug, Forged, Malformed, Refused
from phantomband.core.handshake.replay import ReplayCache
from phantomband.core.ids import NodeId
from phantomband.core.link import Cells, Established, Event, Link, LinkKey, Send, dial, listen, sealed_bytes
from phantomband.core.link.machine import message_sizes
from phantomband.core.link.records import (
    COUNTER_END,
    HEADER_BYTES,
    MAX_RECORD_BYTES,
    REKEY_EVERY,
    Opener,
    Sealer,
)

ROOT = Path(__file__).parents[1]
fuzz = runpy.run_path(str(ROOT / "fuzz" / "fuzz_link.py"))["one_input"]
FILES = [json.loads((ROOT / "vectors" / f"link_{name}.json").read_text()) for name in ("nkhfs", "xkhfs")]

NETWORK, NODE = b"w" * 32, NodeId(b"n" * 32)
LISTENER, DIALER, PSK = LinkKey(b"l" * 32), LinkKey(b"d" * 32), b"p" * 32
SOURCE = _random.Random(1).randbytes
CELLS = SOURCE(40 * CELL_BYTES)


def pair(own: LinkKey | None = None, bridge: bytes | None = None, /, **changed: Any) -> tuple[Link, Link]:
    """(dialer, listener); `changed` is what the dialer believes instead of the truth."""
    truth = {"network_id": NETWORK, "responder_id": NODE, "responder_key": LISTENER.public, "psk": bridge}
    believed: dict[str, Any] = truth | changed
    dialer = dial(own_key=own, random=SOURCE, **believed)
    return dialer, listen(NETWORK, NODE, LISTENER, SOURCE, encapsulate_untrusted, bridge)


def shake(dialer: Link, listener: Link) -> tuple[list[Event], list[Event]]:
    """Runs the handshake; (events of the dialer, events of the listener) without Send."""
    seen: tuple[list[Event], list[Event]] = ([], [])
    ends, messages, to = (dialer, listener), [dialer.start()], 1
    while messages:
        events = [event for message in messages for event in ends[to].receive(message)]
        seen[to].extend(event for event in events if not isinstance(event, Send))
        messages = [event.data for event in events if isinstance(event, Send)]
        to = 1 - to
    return seen


def cells_of(events: list[Event]) -> bytes:
    assert all(isinstance(event, Cells) for event in events)
    return b"".join(event.data for event in events if isinstance(event, Cells))


@pytest.mark.parametrize("psk", [None, PSK])
@pytest.mark.parametrize("own", [None, DIALER])
def test_round_trip(own: LinkKey | None, psk: bytes | None) -> None:
    dialer, listener = pair(own, psk)
    events = shake(dialer, listener)
    assert events == ([Established(LISTENER.public)], [Established(own.public if own else None)])
    for a, b in ((dialer, listener), (listener, dialer)):
        for count in (1, 15, 16, 40):
            cells = CELLS[: count * CELL_BYTES]
            sealed = a.seal(memoryview(cells))
            assert len(sealed) == sealed_bytes(count)
            (event,) = b.receive(sealed)
            assert event == Cells(bytearray(cells))


def test_sizes_are_those_of_the_reference() -> None:
    assert message_sizes("NK", False) == message_sizes("NK", True) == [1312, 1216]
    assert message_sizes("XK", False) == message_sizes("XK", True) == [1312, 1216, 128]
    assert MAX_RECORD_BYTES == 30_754
    assert sealed_bytes(0) == 0
    assert sealed_bytes(16) == MAX_RECORD_BYTES + sealed_bytes(1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 40_000), max_size=12), st.booleans())
def test_any_split_gives_the_same_cells(sizes: list[int], named: bool) -> None:
    dialer, listener = pair(DIALER if named else None)
    seen = feed(listener, dialer.start(), sizes)
    (reply,) = (event.data for event in seen if isinstance(event, Send))
    answer = feed(dialer, reply, sizes)
    third = b"".join(event.data for event in answer if isinstance(event, Send))
    stream = third + dialer.seal(CELLS) + dialer.seal(CELLS[:CELL_BYTES])
    seen += feed(listener, stream, sizes)
    assert Established(DIALER.public if named else None) in seen
    assert cells_of([e for e in seen if isinstance(e, Cells)]) == CELLS + CELLS[:CELL_BYTES]


def feed(link: Link, data: bytes, sizes: list[int]) -> list[Event]:
    """`data` in parts of `sizes`, the rest in one."""
    events: list[Event] = []
    for size in [*sizes, len(data)]:
        events += link.receive(data[:size])
        data = data[size:]
    return events


def test_byte_by_byte_cells_come_as_soon_as_they_are_whole() -> None:
    dialer, listener = pair()
    shake(dialer, listener)
    sealed = dialer.seal(CELLS[: 2 * CELL_BYTES])
    for i in range(len(sealed) - 1):
        assert listener.receive(sealed[i : i + 1]) == []
    assert listener.receive(sealed[-1:]) == [Cells(bytearray(CELLS[: 2 * CELL_BYTES]))]


@pytest.mark.parametrize(
    "changed",
    [
        {"network_id": b"v" * 32},
        {"responder_id": NodeId(b"m" * 32)},
        {"responder_key": DIALER.public},
        {"psk": b"q" * 32},
        {"psk": None},
    ],
    ids=str,
)
@pytest.mark.parametrize("own", [None, DIALER])
def test_what_both_must_know(changed: dict[str, Any], own: LinkKey | None) -> None:
    dialer, listener = pair(own, PSK, **changed)
    with pytest.raises(Malformed):
        listener.receive(dialer.start())
    assert listener.receive(bytes(5000)) == []
    assert not listener.established


def test_a_listener_with_another_key() -> None:
    dialer, _ = pair()
    other = listen(NETWORK, NODE, DIALER, SOURCE, encapsulate_untrusted)
    with pytest.raises(Forged):
        other.receive(dialer.start())


def test_all_zero_diffie_hellman() -> None:
    dialer, listener = pair()
    with pytest.raises(Malformed):
        listener.receive(bytes(32) + dialer.start()[32:])
    with pytest.raises(Malformed):
        dialer.receive(bytes(1216))
    with pytest.raises(Malformed):
        dial(NETWORK, NODE, bytes(32), None, SOURCE).start()


@settings(max_examples=60, deadline=None)
@given(st.data(), st.booleans())
def test_a_flipped_bit_anywhere(data: st.DataObject, named: bool) -> None:
    """In any message or record, of either pattern: Malformed or Forged, then silence."""
    dialer, listener = pair(DIALER if named else None)
    stage = data.draw(st.integers(0, 3))
    first = flipped(data, dialer.start(), stage == 0, listener)
    if first is None:
        return
    (second, *_) = (e.data for e in listener.receive(first) if isinstance(e, Send))
    answer = flipped(data, second, stage == 1, dialer)
    if answer is None:
        return
    third = b"".join(e.data for e in dialer.receive(answer) if isinstance(e, Send))
    if third:
        whole = flipped(data, third, stage == 2, listener)
        if whole is None:
            return
        listener.receive(whole)
    assert flipped(data, bytes(dialer.seal(CELLS[: 3 * CELL_BYTES])), True, listener) is None


def flipped(data: st.DataObject, message: bytes, now: bool, receiver: Link) -> bytes | None:
    """`message` as it is; or, `now`, checks that it fails with one bit flipped and returns None."""
    if not now:
        return message
    bit = data.draw(st.integers(0, len(message) * 8 - 1))
    bad = bytearray(message)
    bad[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Malformed):
        receiver.receive(bad)
    assert receiver.receive(message) == []
    with pytest.raises(Bug):
        receiver.seal(b"")
    return None


def test_records_cannot_be_dropped_replayed_reordered_or_reflected() -> None:
    for order in ((1,), (0, 0), (1, 0)):
        dialer, listener = pair()
        shake(dialer, listener)
        records = [dialer.seal(CELLS[:CELL_BYTES]) for _ in range(2)]
        with pytest.raises(Forged):
            listener.receive(b"".join(records[i] for i in order))
    dialer, listener = pair()
    shake(dialer, listener)
    with pytest.raises(Forged):
        dialer.receive(dialer.seal(CELLS[:CELL_BYTES]))


def test_a_replayed_first_message_gets_no_answer() -> None:
    cache = ReplayCache()
    dialer, _ = pair()
    first = dialer.start()
    assert listen(NETWORK, NODE, LISTENER, SOURCE, encapsulate_untrusted, replay=cache).receive(first)
    with pytest.raises(Forged):
        listen(NETWORK, NODE, LISTENER, SOURCE, encapsulate_untrusted, replay=cache).receive(first)
    with pytest.raises(Forged):
        listen(NETWORK, NODE, LISTENER, SOURCE, encapsulate_untrusted, replay=cache).receive(bytes(1312))
    assert len(cache) == 1


def test_memory_is_bounded_whatever_is_sent() -> None:
    dialer, listener = pair()
    shake(dialer, listener)
    part = dialer.seal(CELLS[: 15 * CELL_BYTES])[:-1]
    for i in range(0, len(part), 1000):
        listener.receive(part[i : i + 1000])
    opener = listener._opener
    assert opener is not None
    assert len(opener._pending) <= MAX_RECORD_BYTES - HEADER_BYTES


def test_misuse_is_our_bug() -> None:
    dialer, listener = pair()
    for wrong in (listener.start, lambda: dialer.seal(CELLS), lambda: (dialer.start(), dialer.start())):
        with pytest.raises(Bug):
            wrong()
    dialer, listener = pair()
    shake(dialer, listener)
    with pytest.raises(Bug):
        dialer.seal(bytes(CELL_BYTES + 1))
    with pytest.raises(ValueError, match="32 bytes"):
        pair(None, b"short")


def test_a_listener_that_speaks_first() -> None:
    dialer, _ = pair()
    with pytest.raises(Malformed):
        dialer.receive(b"x")


def test_rekeys_and_the_old_key_is_gone() -> None:
    key, cell = bytes(32), CELLS[:CELL_BYTES]
    start = REKEY_EVERY - 4
    sealer, opener, stale = Sealer(key, start), Opener(key, start), Sealer(key, REKEY_EVERY + 2)
    records = [sealer.seal(cell) for _ in range(4)]
    assert opener.open_untrusted(b"".join(records)) == cell * 4
    opener = Opener(key, start)
    opener.open_untrusted(b"".join(records[:3]))
    with pytest.raises(Forged):
        opener.open_untrusted(stale.seal(cell))


def test_one_batch_over_a_rekey() -> None:
    sealer, opener = Sealer(bytes(32), REKEY_EVERY - 2), Opener(bytes(32), REKEY_EVERY - 2)
    assert opener.open_untrusted(sealer.seal(CELLS)) == CELLS


def test_counters_end_before_they_wrap() -> None:
    cell = CELLS[:CELL_BYTES]
    last = COUNTER_END - 3
    assert last % 2 == 0
    sealer, opener = Sealer(bytes(32), last), Opener(bytes(32), last)
    assert opener.open_untrusted(sealer.seal(cell)) == cell
    with pytest.raises(Refused):
        sealer.seal(cell)
    with pytest.raises(Malformed):
        opener.open_untrusted(bytes(100))


@pytest.mark.parametrize("count", [0, 16, 65535])
def test_counts_out_of_range(count: int) -> None:
    sealer, opener = Sealer(bytes(32)), Opener(bytes(32))
    header = sealer.aead.encrypt(bytes(12), count.to_bytes(2, "big"), None)
    with pytest.raises(Malformed):
        opener.open_untrusted(header)


def replayed(random: list[str]) -> Callable[[int], bytes]:
    left = [bytes.fromhex(r) for r in random]
    return lambda size: left.pop(0)


@pytest.mark.parametrize("text", [v for f in FILES for v in f["vectors"]], ids=lambda v: v["protocol"])
def test_vectors(text: dict[str, Any]) -> None:
    v = {k: bytes.fromhex(x) for k, x in text.items() if isinstance(x, str) and k != "protocol"}
    own = LinkKey(v["dialer_private"]) if "dialer_private" in v else None
    node, key, psk = NodeId(v["node_id"]), LinkKey(v["listener_private"]), v.get("psk")
    random = replayed(text["dialer_random_e_seed"])
    dialer = dial(v["network_id"], node, v["listener_public"], own, random, psk)

    def encapsulate(public: bytes) -> tuple[bytes, bytes]:
        assert public == v["kem_public"]
        return v["kem_secret"], v["kem_ciphertext"]

    listener = listen(v["network_id"], node, key, replayed(text["listener_random_e"]), encapsulate, psk)
    messages, ends = [dialer.start()], (listener, dialer)
    for i, message in enumerate(iter(messages)):
        messages += [event.data for event in ends[i % 2].receive(message) if isinstance(event, Send)]
    assert [m.hex() for m in messages] == text["messages"]
    assert dialer.seal(v["cells"]) == v["forward_2_cells"]
    assert listener.seal(v["cells"][:CELL_BYTES]) == v["backward_1_cell"]


def test_rekey_vector() -> None:
    v = FILES[0]["rekey"]
    sealer = Sealer(bytes.fromhex(v["key"]), v["counter"])
    assert [sealer.seal(bytes.fromhex(v["cell"])).hex() for _ in range(2)] == v["records"]


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=3000))
def test_fuzz(data: bytes) -> None:
    fuzz(data)
