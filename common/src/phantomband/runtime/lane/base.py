"""A lane: one direction of cell batches and their control messages between two services of one node.

The sender dials the receiver and keeps dialling; the receiver is the gRPC server of its service. Two drivers carry
the same frames: a gRPC stream, and a framed Unix-socket stream whose path the two agree on through gRPC. Frames
arrive whole, in order, once, or the lane is down: a broken lane has lost cells, so both ends are told and drop every
circuit on it (PROTOCOL.md section 6).

A frame is `kind 1 | payload`. Kinds belong to the services; the lane looks at none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

Buffer = bytes | bytearray | memoryview

MAX_FRAME_BYTES = 1024 * 1024
"""A longer frame is refused at both ends."""

HIGH_WATER = 4 * 1024 * 1024
"""Bytes waiting in a lane above which it is congested and its feeder stops reading from the network."""


class Driver(StrEnum):
    """How a lane moves its frames."""

    GRPC = "grpc"
    UNIX = "unix"


@dataclass(frozen=True, slots=True)
class LanePeer:
    """Who is at the other end: the service's name and the incarnation (random 64 bits) of its process."""

    service: str
    incarnation: int


class LaneReceiver(Protocol):
    """Who takes the frames of one attached sender."""

    def frame(self, kind: int, payload: memoryview) -> None:
        """One frame. The buffer is the lane's: copy what must outlive the call."""

    def down(self) -> None:
        """Called once, last."""


AcceptLane = Callable[[LanePeer], LaneReceiver]


class LaneSender(Protocol):
    """The sending end, as services see it."""

    @property
    def up(self) -> bool: ...

    @property
    def buffered(self) -> int:
        """Bytes not yet taken by the operating system or the gRPC stream."""

    def send(self, kind: int, parts: Sequence[Buffer]) -> bool:
        """Queues one frame made of `parts`. Never blocks. False, and nothing is sent, when the lane is down."""
