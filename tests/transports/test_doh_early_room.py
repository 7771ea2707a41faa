"""What all sessions of a doh port hold before its turn has one bound; what has no room comes again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from phantomband.transports.doh.halves import EarlyRoom, ReceiveHalf

WINDOW = 100_000


def test_sessions_that_send_from_the_middle_share_one_room() -> None:
    room = EarlyRoom(1000)
    halves = [ReceiveHalf(WINDOW, room) for _ in range(50)]
    for half in halves:
        half.add_untrusted(10, bytes(90), False)
    assert room.left == 1000 - 11 * 90, "eleven had room, the others' pieces were dropped"
    for half in halves:
        half.drop()
    assert room.left == 1000


def test_a_piece_without_room_is_taken_when_it_comes_again() -> None:
    room = EarlyRoom(5)
    half = ReceiveHalf(WINDOW, room)
    half.add_untrusted(3, b"defghi", False)
    half.add_untrusted(0, b"abc", False)
    assert b"".join(half.take()) == b"abc"
    half.add_untrusted(3, b"defghi", True)
    assert b"".join(half.take()) == b"defghi"
    assert half.ended
    assert room.left == 5


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20)), max_size=60), st.integers(0, 60))
def test_the_room_is_given_back_whatever_comes_in_whatever_order(pieces: list[tuple[int, int]], size: int) -> None:
    room, whole = EarlyRoom(size), bytes(range(60))
    half = ReceiveHalf(WINDOW, room)
    got = b""
    for offset, length in pieces:
        half.add_untrusted(offset, whole[offset : offset + length], False)
        got += b"".join(half.take())
        assert 0 <= room.left <= size
    half.add_untrusted(0, whole, True)
    got += b"".join(half.take())
    assert got == whole
    assert room.left == size
