"""Onion keys turn by the clock and the view: in order, on disk first, neither skipped nor repeated by restarts."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from phantomband.core.crypto.kem import encapsulate_untrusted
from phantomband.core.errors import Malformed, UserError
from phantomband.core.handshake.ntor import OnionKey, RelayKeys, Responder, client_start
from phantomband.core.handshake.replay import ReplayCache
from phantomband.core.ids import HopNumber, NodeId
from phantomband.core.netdir.epoch import EpochClock
from phantomband_relay import onion_keys
from phantomband_relay.onion_keys import FILE_BYTES, KeyRing, OnionKeys, Periods
from world import NETWORK_ID, Seeded

EPOCHS = EpochClock(1_000_000, startup_epochs=5, startup_seconds=1, epoch_seconds=60)
PERIODS = Periods(EPOCHS, 4)
PERIOD = 4 * 60.0
NODE = NodeId(b"n" * 32)


class Clock:
    now = EPOCHS.regular_start + 1.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "relay" / "onion.key"


def ring(path: Path, clock: Clock, seed: int = 1) -> KeyRing:
    return KeyRing(path, PERIODS, Seeded(seed), clock)


def turn(held: KeyRing, clock: Clock) -> bool:
    """As when the newest view is of the epoch that the clock says."""
    return held.turn(EPOCHS.epoch_at(clock.now))


def publics(keys: OnionKeys) -> tuple[bytes, bytes, bytes]:
    return keys.previous.public, keys.current.public, keys.next.public


def test_periods_follow_from_the_epoch_alone() -> None:
    first = 1 + EPOCHS.startup_epochs
    assert [PERIODS.of_epoch(e) for e in (0, 1, first - 1, first, first + 3, first + 4, first + 8)] == [
        0, 0, 0, 0, 0, 1, 2,
    ]  # fmt: skip
    start = float(EPOCHS.regular_start)
    assert PERIODS.at(start - 100) == 0
    assert PERIODS.at(start + PERIOD - 0.001) == 0
    assert PERIODS.at(start + PERIOD) == 1
    assert PERIODS.next_turn(start - 100) == start + PERIOD
    assert PERIODS.next_turn(start + PERIOD) == start + 2 * PERIOD
    assert [PERIODS.named_at(start + s) for s in (0, 179, 180, 240)] == [0, 0, 1, 1], "an epoch before the turn"


def test_a_new_file_is_private_and_kept(path: Path, clock: Clock) -> None:
    made = ring(path, clock)
    assert len(set(publics(made.keys))) == 3
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.stat().st_size == FILE_BYTES
    assert publics(ring(path, clock, seed=2).keys) == publics(made.keys)


def test_a_turn_moves_each_key_on_and_the_oldest_is_nowhere(path: Path, clock: Clock) -> None:
    held = ring(path, clock)
    previous, current, following = publics(held.keys)
    secret = held.keys.previous.private_bytes()
    assert not turn(held, clock), "not yet"
    clock.now += PERIOD
    assert turn(held, clock)
    assert publics(held.keys)[:2] == (current, following)
    assert publics(held.keys)[2] not in (previous, current, following)
    assert secret not in path.read_bytes()
    assert not turn(held, clock), "once"
    assert publics(ring(path, clock, seed=2).keys) == publics(held.keys)


@pytest.mark.parametrize(("periods", "kept"), [(1, 2), (2, 1), (3, 1), (1000, 1)])
def test_a_node_that_was_off_catches_up_and_keeps_the_key_that_it_named_last(
    path: Path, clock: Clock, periods: int, kept: int
) -> None:
    before = publics(ring(path, clock).keys)
    clock.now += periods * PERIOD
    after = ring(path, clock, seed=2)
    assert publics(after.keys) == before, "without a view nothing turns"
    named = after.named.public
    assert turn(after, clock)
    assert after.keys.period == periods
    assert publics(after.keys)[:kept] == before[3 - kept :]
    assert len(set(before) | set(publics(after.keys))) == 6 - kept
    assert named in publics(after.keys)
    assert not turn(after, clock)


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("step", [-48 * 3600.0, -3600.0, 3600.0, 48 * 3600.0])
def test_a_clock_that_is_wrong_for_a_moment_lets_no_key_go(
    path: Path, clock: Clock, step: float, restarts: bool
) -> None:
    clock.now += 1000 * PERIOD
    held = ring(path, clock)
    keys, epoch = publics(held.keys), EPOCHS.epoch_at(clock.now)
    clock.now += step
    held = ring(path, clock, seed=2) if restarts else held
    assert not held.turn(None)
    assert not held.turn(epoch), "the view knows better"
    assert held.named.public in keys
    clock.now -= step
    assert not held.turn(epoch)
    assert publics(held.keys) == publics(ring(path, clock, seed=3).keys) == keys


def test_an_old_view_lets_no_key_go_either(path: Path, clock: Clock) -> None:
    clock.now += 10 * PERIOD
    held = ring(path, clock)
    keys = publics(held.keys)
    clock.now += PERIOD
    assert not held.turn(EPOCHS.epoch_at(clock.now - 9 * PERIOD))
    assert publics(held.keys) == keys


def test_a_clock_that_steps_back_a_little_changes_nothing(path: Path, clock: Clock) -> None:
    clock.now += PERIOD
    held = ring(path, clock)
    turn(held, clock)
    keys = publics(held.keys)
    clock.now -= PERIOD / 2
    assert not turn(held, clock)
    assert publics(ring(path, clock, seed=3).keys) == keys
    clock.now += PERIOD / 2
    assert not turn(held, clock), "the turn has been made already"


def test_after_a_clock_far_in_the_future_turns_go_on_from_now(path: Path, clock: Clock) -> None:
    clock.now += 50 * PERIOD
    held = ring(path, clock)
    keys = publics(held.keys)
    clock.now -= 49 * PERIOD
    turn(held, clock)
    assert publics(held.keys) == keys
    clock.now += PERIOD
    assert turn(held, clock)
    assert publics(held.keys)[:2] == keys[1:]


def test_descriptors_name_the_key_of_the_next_epoch(path: Path, clock: Clock) -> None:
    held = ring(path, clock)
    assert held.named is held.keys.current
    assert held.following is held.keys.next
    clock.now += 3 * 60
    coming = held.named
    assert coming is held.keys.next
    assert held.following is None
    clock.now += 60
    turn(held, clock)
    assert held.named.public == held.keys.current.public == coming.public


def test_a_key_file_of_one_key_is_taken_over_as_the_current_one(path: Path, clock: Clock) -> None:
    path.parent.mkdir(mode=0o700)
    path.write_bytes(b"o" * 32)
    path.chmod(0o600)
    assert ring(path, clock).keys.current.public == OnionKey(b"o" * 32).public
    assert path.stat().st_size == FILE_BYTES


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"x" * 31, "has 31 bytes"),
        (b"\x02" + b"x" * (FILE_BYTES - 1), "a later release"),
        (bytes(FILE_BYTES), "is damaged"),
        (b"\x01" + bytes(8) + b"x" * 64 + bytes(32), "is damaged"),
    ],
)
def test_a_damaged_file_says_what_to_do(path: Path, clock: Clock, data: bytes, message: str) -> None:
    path.parent.mkdir(mode=0o700)
    path.write_bytes(data)
    path.chmod(0o600)
    with pytest.raises(UserError, match=message):
        ring(path, clock)


def test_a_disk_that_cannot_be_written_leaves_the_keys_and_it_is_tried_again(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = ring(path, clock)
    keys = publics(held.keys)
    clock.now += PERIOD

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(onion_keys, "write_whole", full)
        with pytest.raises(UserError, match="No space left"):
            turn(held, clock)
    assert publics(held.keys) == keys
    assert turn(held, clock)
    assert publics(held.keys)[:2] == keys[1:]


def test_previous_current_and_next_are_answered_and_an_older_one_is_not(path: Path, clock: Clock) -> None:
    held = ring(path, clock)
    older = held.keys.previous
    responder = Responder(NODE, held.keys.accepted, NETWORK_ID, ReplayCache())
    clock.now += PERIOD
    turn(held, clock)
    responder.accept(held.keys.accepted)
    for seed, key in enumerate(held.keys.accepted):
        state, skin = client_start(RelayKeys(NODE, key.public), NETWORK_ID, HopNumber(1), b"", Seeded(seed))
        reply, keys, _ = responder.answer(skin, 1, lambda _: b"", Seeded(seed + 9), encapsulate_untrusted)
        assert state.finish(reply)[0] == keys
        with pytest.raises(Malformed, match="used before"):
            responder.admit(skin, 1)
    _, skin = client_start(RelayKeys(NODE, older.public), NETWORK_ID, HopNumber(1), b"", Seeded(7))
    with pytest.raises(Malformed, match="not ours"):
        responder.admit(skin, 1)


def test_a_turn_forgets_nothing_of_the_keys_that_stay(path: Path, clock: Clock) -> None:
    held = ring(path, clock)
    cache = ReplayCache()
    responder = Responder(NODE, held.keys.accepted, NETWORK_ID, cache)
    skins = [
        client_start(RelayKeys(NODE, key), NETWORK_ID, HopNumber(1), b"", Seeded(i))[1]
        for i, key in enumerate(publics(held.keys))
    ]
    for skin in skins:
        responder.remember(skin)
    clock.now += PERIOD
    turn(held, clock)
    responder.accept(held.keys.accepted)
    assert len(cache) == 2, "that of the retired key is forgotten"
    for skin in skins[1:]:
        with pytest.raises(Malformed, match="used before"):
            responder.admit(skin, 1)


def test_the_blocks_of_keys_that_went_are_overwritten_in_place(path: Path, clock: Clock) -> None:
    held = ring(path, clock)
    with path.open("rb") as before:
        clock.now += PERIOD
        assert turn(held, clock)
        assert not any(before.read())
    assert len(path.read_bytes()) == FILE_BYTES
    assert publics(ring(path, clock).keys) == publics(held.keys)
