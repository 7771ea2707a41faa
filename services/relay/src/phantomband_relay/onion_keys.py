"""The relay's onion keys: previous, current and next, all accepted, turned when the clock and the newest certified view
say that a period has begun (PROTOCOL.md section 7, point 8; decision 0046).

One file, so that a crash leaves the keys of before or of after a turn, never a mixture:

    DATA/relay/onion.key    version 1 | period 8 | previous 32 | current 32 | next 32, secret, mode 0600

A period has as many regular epochs as `relay.onion_key_epochs` says, and its number follows from the epoch alone: a
restart neither skips nor repeats a turn. A clock that is ahead for a moment turns nothing: a key that went does not
come back when the clock does, and until a new descriptor is in the views nobody could build a circuit here. At a turn
the previous key goes: whoever takes the machine later can neither stand in for the relay under it nor open the CM of
handshakes that were recorded.

The new file takes the old one's place in one step, and then the old one's blocks are overwritten with zeros before they
are let go. That reaches the key on file systems that write in place (ext4 and xfs as they are by default), on a disk
that does. It does **not** where new blocks are taken for each write: btrfs, ZFS, F2FS, snapshots, a journal of data,
and any SSD, which keeps what it replaces until it needs the room. Nor does it reach backups, swap and the memory of the
process. Encrypt the disk. After a crash between the two steps the old blocks are freed as they are.

A view that is voted in one epoch takes effect in the next. So descriptors name the key of the *next* epoch's period:
in the last epoch of a period that is already `next`. A key is accepted for a whole period after the last view that
names it has taken effect, at any length of periods.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.errors import UserError
from phantomband.core.handshake.ntor import OnionKey
from phantomband.core.netdir.epoch import EpochClock
from phantomband.core.wire import u8, u64
from phantomband.runtime.keystore import load_or_create, write_whole

VERSION = 1
KEY_BYTES = 32
KEYS = 3
FILE_BYTES = 1 + 8 + KEYS * KEY_BYTES

MOST_TURNS = KEYS - 1
"""At once, after a time off: the key that descriptors name is then the previous one, and serves for one more period."""

CLOCK_STEP_PERIODS = 1
"""A file from so many periods ahead is of a clock that was set back a little, or the view is old; from further ahead,
it was made by a clock that was wrong: then the turns go on from now."""


@dataclass(frozen=True, slots=True)
class OnionKeys:
    """The three keys of one period."""

    period: int
    previous: OnionKey
    current: OnionKey
    next: OnionKey

    @property
    def accepted(self) -> tuple[OnionKey, ...]:
        """Current first."""
        return (self.current, self.next, self.previous)

    def turned_to(self, period: int, random: RandomSource) -> OnionKeys:
        """The keys of another period: one turn for each that has begun since, `MOST_TURNS` at most."""
        keys = self
        for _ in range(min(MOST_TURNS, max(0, period - self.period))):
            keys = OnionKeys(keys.period + 1, keys.current, keys.next, OnionKey.generate(random))
        return OnionKeys(period, keys.previous, keys.current, keys.next)

    def encode(self) -> bytes:
        """105 bytes, secret."""
        keys = (self.previous, self.current, self.next)
        return u8(VERSION) + u64(self.period) + b"".join(key.private_bytes() for key in keys)

    @classmethod
    def decode(cls, data: bytes, path: Path) -> Self:
        """What `encode` gives. Raises: UserError: a later release wrote it."""
        if data[0] != VERSION:
            raise UserError(f"{path}: is of a later release. Use that one, or remove the file for new keys")
        keys = (OnionKey(data[at : at + KEY_BYTES]) for at in range(9, FILE_BYTES, KEY_BYTES))
        return cls(int.from_bytes(data[1:9], "big"), *keys)

    @classmethod
    def generate(cls, period: int, random: RandomSource, current: OnionKey | None = None) -> Self:
        """New keys; the previous one is known to nobody."""
        previous, made, following = (OnionKey.generate(random) for _ in range(KEYS))
        return cls(period, previous, current or made, following)


@dataclass(frozen=True, slots=True)
class Periods:
    """When onion keys turn. Args: epochs: regular epochs of a period."""

    clock: EpochClock
    epochs: int

    def of_epoch(self, epoch: int) -> int:
        """The period that an epoch lies in, from 0; all startup epochs are of the first."""
        return max(0, epoch - 1 - self.clock.startup_epochs) // self.epochs

    def at(self, now: float) -> int:
        return self.of_epoch(self.clock.epoch_at(now))

    def named_at(self, now: float) -> int:
        """The period whose key descriptors name now: that of the next epoch."""
        return self.of_epoch(self.clock.epoch_at(now) + 1)

    def next_turn(self, now: float) -> float:
        """When the next period begins."""
        first = 1 + self.clock.startup_epochs + (self.at(now) + 1) * self.epochs
        return float(self.clock.start(first))


def replace_secret(path: Path, data: bytes) -> None:
    """Puts a file in the place of another, and overwrites what that one had.

    Raises:
        OSError: the new one could not be written; the old one is there as it was.
    """
    with path.open("r+b", buffering=0) as old:
        write_whole(path, data)
        try:
            os.pwrite(old.fileno(), bytes(os.fstat(old.fileno()).st_size), 0)
            os.fsync(old.fileno())
        except OSError:
            pass  # the turn stands: the new keys are on disk, and only the old blocks could not be reached


class KeyRing:
    """The keys in their file.

    Raises:
        UserError: the file cannot be used; says what to do.
    """

    def __init__(self, path: Path, periods: Periods, random: RandomSource, clock: Callable[[], float]) -> None:
        self._path, self._periods, self._random, self._clock = path, periods, random, clock
        self.keys = self._load()

    def _load(self) -> OnionKeys:
        now = self._periods.at(self._clock())
        if not self._path.exists():
            load_or_create(self._path, FILE_BYTES, lambda _: OnionKeys.generate(now, self._random).encode())
        if self._path.stat().st_size == KEY_BYTES:  # of a release whose key never turned
            old = OnionKey(load_or_create(self._path, KEY_BYTES, self._random))
            replace_secret(self._path, OnionKeys.generate(now, self._random, old).encode())
        return OnionKeys.decode(load_or_create(self._path, FILE_BYTES, self._random), self._path)

    def turn(self, certified: int | None) -> bool:
        """Turns the keys to the present period, on disk before it returns; whether anything changed.

        Args:
            certified: epoch of the newest certified view: the word of many clocks. None: there is none yet.

        Raises:
            UserError: the file cannot be written; the keys stay as they are.
        """
        if certified is None:
            return False
        said = (self._periods.of_epoch(certified), self._periods.at(self._clock()))
        if min(said) > self.keys.period:
            period = min(said)
        elif max(said) < self.keys.period - CLOCK_STEP_PERIODS:
            period = max(said)
        else:
            return False
        before, turned = self.keys, self.keys.turned_to(period, self._random)
        try:
            replace_secret(self._path, turned.encode())
        except OSError as e:
            raise UserError(f"{self._path}: cannot be written ({e.strerror}). Check disk space and permissions") from e
        self.keys = turned
        return before.accepted != self.keys.accepted

    @property
    def named(self) -> OnionKey:
        """What descriptors name now."""
        return self.keys.next if self._periods.named_at(self._clock()) > self.keys.period else self.keys.current

    @property
    def following(self) -> OnionKey | None:
        """The key after the one that descriptors name; None when there is none yet."""
        return None if self.named is self.keys.next else self.keys.next

    def until_turn(self) -> float:
        """Seconds."""
        now = self._clock()
        return max(0.0, self._periods.next_turn(now) - now)
