"""The receiving end's table of attached senders: at most one live attachment for each service name."""

from __future__ import annotations

from collections.abc import Callable

from phantomband.runtime.lane.base import AcceptLane, LanePeer, LaneReceiver


class Attachment:
    """One attached sender. Whatever ends it, its receiver is told exactly once and takes no frame afterwards.

    Args:
        receiver: who takes the frames.
        hang_up: ends the connection below; called once.
    """

    __slots__ = ("_hang_up", "_receiver", "ended", "frame")

    def __init__(self, receiver: LaneReceiver, hang_up: Callable[[], None]) -> None:
        self._receiver = receiver
        self._hang_up = hang_up
        self.frame = receiver.frame
        self.ended = False

    def end(self) -> None:
        if self.ended:
            return
        self.ended = True
        self._hang_up()
        self._receiver.down()


class Attachments:
    """Who is attached now. A new attachment of a service replaces the old one, which is ended first."""

    def __init__(self, accept: AcceptLane) -> None:
        self._accept = accept
        self._live: dict[str, Attachment] = {}

    def enter(self, peer: LanePeer, hang_up: Callable[[], None]) -> Attachment:
        self._leave(peer.service)
        attachment = Attachment(self._accept(peer), hang_up)
        self._live[peer.service] = attachment
        return attachment

    def _leave(self, service: str) -> None:
        old = self._live.pop(service, None)
        if old is not None:
            old.end()

    def close(self) -> None:
        for service in list(self._live):
            self._leave(service)
