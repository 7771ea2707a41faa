"""The handshake's machines: any cut, any fault, and what a server remembers."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phantomband.core.errors import Forged, Malformed, UserError
from phantomband.transports.obfs4 import elligator, identity
from phantomband.transports.obfs4.handshake import MAX_HANDSHAKE, Answered, ClientHandshake, ServerHandshake
from phantomband.transports.obfs4.identity import Certificate, Identity
from phantomband.transports.obfs4.ntor import hmac_sha256
from phantomband.transports.obfs4.replay import TTL, ReplayFilter

NOW = 1_800_000_000.0
DICE = random.Random(7)
SERVER = Identity(DICE.randbytes(identity.FILE_BYTES))
KEYS = [elligator.generate(DICE.randbytes) for _ in range(2)]


def client(dice: random.Random, now: float = NOW) -> ClientHandshake:
    return ClientHandshake(SERVER.certificate, KEYS[0], now, dice.randbytes)


def server(dice: random.Random, seen: ReplayFilter | None = None) -> ServerHandshake:
    return ServerHandshake(SERVER, lambda: KEYS[1], seen or ReplayFilter(), dice.randbytes)


def answered(done: Answered | None) -> Answered:
    assert done is not None
    return done


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32), data=st.data())
def test_both_ends_agree_whatever_the_cut(seed: int, data: st.DataObject) -> None:
    dice = random.Random(seed)
    a, b = client(dice), server(dice)
    cut = data.draw(st.integers(1, len(a.hello) - 1))
    assert b.receive_untrusted(a.hello[:cut], NOW) is None
    there = answered(b.receive_untrusted(a.hello[cut:], NOW))
    assert 96 <= len(there.reply) <= MAX_HANDSHAKE - 45
    assert 96 + 45 <= len(a.hello) <= MAX_HANDSHAKE
    sent = there.reply + b"and more"
    cut = data.draw(st.integers(1, len(there.reply) - 1))
    assert a.receive_untrusted(sent[:cut]) is None
    here = a.receive_untrusted(sent[cut:])
    assert here is not None
    assert here.keys == there.keys
    assert here.rest == b"and more"


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32), data=st.data())
def test_a_changed_request_is_never_answered(seed: int, data: st.DataObject) -> None:
    dice = random.Random(seed)
    hello = bytearray(client(dice).hello)
    hello[data.draw(st.integers(0, len(hello) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        assert server(dice).receive_untrusted(bytes(hello), NOW) is None
    except Forged:
        pass


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32), data=st.data())
def test_a_changed_answer_is_never_believed(seed: int, data: st.DataObject) -> None:
    dice = random.Random(seed)
    a = client(dice)
    reply = bytearray(answered(server(dice).receive_untrusted(a.hello, NOW)).reply)
    reply[data.draw(st.integers(0, len(reply) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        assert a.receive_untrusted(bytes(reply)) is None
    except Forged:
        pass


@settings(deadline=None, max_examples=60)
@given(parts=st.lists(st.binary(max_size=4000), max_size=6))
def test_any_bytes_are_waited_for_or_refused(parts: list[bytes]) -> None:
    for machine in (server(random.Random(1)), client(random.Random(1))):
        try:
            for part in parts:
                done = (
                    machine.receive_untrusted(part, NOW)
                    if isinstance(machine, ServerHandshake)
                    else machine.receive_untrusted(part)
                )
                assert done is None
        except Forged:
            assert sum(map(len, parts)) >= MAX_HANDSHAKE


def test_the_most_that_is_read_is_8192_bytes() -> None:
    for machine in (server(random.Random(1)), client(random.Random(1))):
        arguments = (NOW,) if isinstance(machine, ServerHandshake) else ()
        assert machine.receive_untrusted(bytes(MAX_HANDSHAKE - 1), *arguments) is None
        with pytest.raises(Forged, match="no mark"):
            machine.receive_untrusted(b"x", *arguments)


def test_bytes_behind_a_request_are_refused() -> None:
    """A client cannot have anything to say before it has the server's key."""
    dice = random.Random(3)
    hello = longest(dice)
    assert server(dice).receive_untrusted(hello, NOW) is not None
    with pytest.raises(Forged, match="more than its request"):
        server(dice).receive_untrusted(hello + b"x", NOW)


def longest(dice: random.Random) -> bytes:
    """A request of 8,192 bytes."""
    head = KEYS[0].representative + dice.randbytes(MAX_HANDSHAKE - 64)
    key = SERVER.certificate.mac_key
    head += hmac_sha256(key, KEYS[0].representative)[:16]
    return head + hmac_sha256(key, head, str(int(NOW) // 3600).encode())[:16]


@pytest.mark.parametrize("hours", [-1, 0, 1])
def test_clocks_may_be_an_hour_apart(hours: int) -> None:
    dice = random.Random(4)
    a = client(dice, NOW + hours * 3600)
    there = answered(server(dice).receive_untrusted(a.hello, NOW))
    here = a.receive_untrusted(there.reply)
    assert here is not None
    assert here.keys == there.keys


@pytest.mark.parametrize("public", [bytes(32), b"\1" + bytes(31)])
def test_a_point_of_low_order_is_no_key(public: bytes) -> None:
    """u = 0 has the representative 0."""
    dice = random.Random(5)
    a = ClientHandshake(
        SERVER.certificate, elligator.HiddenKeys(KEYS[0].private, public, bytes(32)), NOW, dice.randbytes
    )
    with pytest.raises(Forged, match="zero"):
        server(dice).receive_untrusted(a.hello, NOW)


def test_who_has_another_key_is_not_the_server() -> None:
    dice = random.Random(6)
    a = client(dice)
    impostor = identity.Identity(SERVER.certificate.node_id + dice.randbytes(identity.FILE_BYTES - 20))
    impostor.certificate = SERVER.certificate  # knows what clients know
    there = answered(
        ServerHandshake(impostor, lambda: KEYS[1], ReplayFilter(), dice.randbytes).receive_untrusted(a.hello, NOW)
    )
    with pytest.raises(Forged, match="does not know its key"):
        a.receive_untrusted(there.reply)


def test_the_replay_filter_is_bounded_and_forgets_the_oldest() -> None:
    seen = ReplayFilter(limit=3)
    for i in range(5):
        seen.add_untrusted(bytes([i]), float(i))
    assert len(seen) == 3
    with pytest.raises(Forged):
        seen.add_untrusted(bytes([4]), 5.0)


def test_the_replay_filter_forgets_what_is_too_old_to_be_replayed() -> None:
    seen = ReplayFilter()
    seen.add_untrusted(b"a", 0.0)
    with pytest.raises(Forged):
        seen.add_untrusted(b"a", TTL - 1)
    seen.add_untrusted(b"b", TTL)
    assert len(seen) == 1


def test_a_certificate_is_read_back_and_every_fault_is_malformed() -> None:
    text = SERVER.certificate.text
    assert len(text) == 70
    assert Certificate.parse_untrusted(text) == SERVER.certificate
    assert Certificate.parse_untrusted(text + "==") == SERVER.certificate
    for wrong in ("", "x", text[:-4], text + "AAAA", "!" * 70, "é" * 70):
        with pytest.raises(Malformed):
            Certificate.parse_untrusted(wrong)


def test_the_key_file_stays_and_is_nobody_elses(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "gateway" / "obfs4.key"
    first = identity.load_or_create(path, random.Random(1).randbytes)
    assert path.stat().st_mode & 0o777 == 0o600
    assert identity.load_or_create(path, random.Random(2).randbytes).certificate == first.certificate
    path.chmod(0o644)
    with pytest.raises(UserError, match="chmod 600"):
        identity.load_or_create(path, random.Random(1).randbytes)
    path.chmod(0o600)
    path.write_bytes(b"short")
    with pytest.raises(UserError, match="76"):
        identity.load_or_create(path, random.Random(1).randbytes)
