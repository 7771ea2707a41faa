"""Reading and writing network bytes: big-endian integers and length-prefixed strings, bounds always checked."""

from __future__ import annotations

from phantomband.core.errors import Malformed


class Reader:
    """Takes values off the front of `data`; anything missing or left over is `Malformed`."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        """The next `size` bytes.

        Raises:
            Malformed: fewer than `size` bytes are left.
        """
        end = self._at + size
        if size < 0 or end > len(self._data):
            raise Malformed(f"message ends {end - len(self._data)} bytes early")
        out = self._data[self._at : end]
        self._at = end
        return out

    def u8(self) -> int:
        return self.take(1)[0]

    def u16(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def u64(self) -> int:
        return int.from_bytes(self.take(8), "big")

    def lv8(self) -> bytes:
        """A string behind a one-byte length."""
        return self.take(self.u8())

    def lv16(self) -> bytes:
        """A string behind a two-byte length."""
        return self.take(self.u16())

    def lv32(self, limit: int) -> bytes:
        """A string behind a four-byte length of at most `limit` bytes."""
        size = self.u32()
        if size > limit:
            raise Malformed(f"a field of {size} bytes is over its limit of {limit}")
        return self.take(size)

    @property
    def remaining(self) -> int:
        return len(self._data) - self._at

    def rest(self) -> bytes:
        return self.take(self.remaining)

    def end(self) -> None:
        """Checks that nothing is left over."""
        if self.remaining:
            raise Malformed(f"{self.remaining} bytes after the end of the message")


def u8(value: int) -> bytes:
    return value.to_bytes(1, "big")


def u16(value: int) -> bytes:
    return value.to_bytes(2, "big")


def u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def u64(value: int) -> bytes:
    return value.to_bytes(8, "big")


def lv8(value: bytes) -> bytes:
    return u8(len(value)) + value


def lv16(value: bytes) -> bytes:
    return u16(len(value)) + value


def lv32(value: bytes) -> bytes:
    return u32(len(value)) + value


def encap(value: bytes) -> bytes:
    """ENCAP(x) = 8-byte big-endian length | x (Tor proposal 332)."""
    return u64(len(value)) + value
