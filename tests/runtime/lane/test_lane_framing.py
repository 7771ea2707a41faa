"""The gRPC driver's wire format is protobuf's, and any bytes give frames or Malformed."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phantomband.core.errors import Malformed
from phantomband.proto import lane_pb2
from phantomband.runtime.lane.base import MAX_FRAME_BYTES, LanePeer
from phantomband.runtime.lane.framing import decode_frames_untrusted, frames_header
from phantomband.runtime.lane.grpc_driver import decode_hello_untrusted

FRAMES = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=40_000)), max_size=5)


@given(FRAMES)
def test_frames_are_protobufs_and_come_back(frames: list[tuple[int, bytes]]) -> None:
    message = b"".join(frames_header(kind, len(payload)) + payload for kind, payload in frames)
    theirs = lane_pb2.Frames(frames=[bytes([kind]) + payload for kind, payload in frames])
    assert message == theirs.SerializeToString()
    assert [(kind, bytes(payload)) for kind, payload in decode_frames_untrusted(message)] == frames


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda rest: b"\x0a" + rest))
def test_any_bytes_give_frames_or_malformed(message: bytes) -> None:
    with contextlib.suppress(Malformed):
        for kind, _ in decode_frames_untrusted(message):
            assert 0 <= kind < 256
    with contextlib.suppress(Malformed):
        assert decode_hello_untrusted(message).service


@pytest.mark.parametrize(
    "message",
    [
        b"\x0a",  # no length
        b"\x0a\x00",  # a frame without a kind
        b"\x0a\x03\x01\x02",  # cut short
        b"\x0a\xff\xff\xff\xff\x01",  # a length of five bytes
        b"\x12\x00",  # another field
        frames_header(1, MAX_FRAME_BYTES + 1) + bytes(MAX_FRAME_BYTES + 1),
    ],
)
def test_bad_frames_are_malformed(message: bytes) -> None:
    with pytest.raises(Malformed):
        list(decode_frames_untrusted(message))


def test_a_hello_is_a_hello() -> None:
    hello = lane_pb2.Hello(service="relay", incarnation=2**64 - 1)
    message = lane_pb2.Frames(hello=hello).SerializeToString()
    assert decode_hello_untrusted(message) == LanePeer("relay", 2**64 - 1)
    with pytest.raises(Malformed):
        decode_hello_untrusted(lane_pb2.Frames(hello=hello, frames=[b"1"]).SerializeToString())
    with pytest.raises(Malformed):
        decode_hello_untrusted(None)
