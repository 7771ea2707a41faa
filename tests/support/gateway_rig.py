"""A gateway with one link and a fake lane to its relay."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fakes import FakeConnection
from link_rig import LISTENER, NETWORK, NODE
from phantomband.core.link import dial
from phantomband.runtime.lane.base import Driver, LanePeer
from phantomband_gateway.service import GatewayParts, GatewayService
from world import Seeded


class FakeLane:
    """The lane to the relay."""

    up = True
    buffered = 0

    def __init__(self) -> None:
        self.sent: list[tuple[int, bytes]] = []

    @property
    def kinds(self) -> list[int]:
        return [kind for kind, _ in self.sent]

    def send(self, kind: int, parts: Sequence[bytes | bytearray | memoryview]) -> bool:
        self.sent.append((kind, b"".join(parts)))
        return True


class Rig:
    """A gateway with one link."""

    def __init__(self, path: Path) -> None:
        parts = GatewayParts(
            path, "unix:x", "unix:x", Driver.UNIX, NETWORK, NODE, LISTENER, {}, (), (), 4, 4, Seeded(1)
        )
        self.service, self.lane, self.connection = GatewayService(parts), FakeLane(), FakeConnection()
        self.service._relay = self.lane  # type: ignore[assignment]
        self.mixer = self.service._accept_lane(LanePeer("mixer", 1))
        receiver = self.service.links.accept(self.connection)
        self.peer = dial(NETWORK, NODE, LISTENER.public, None, Seeded(2))
        receiver.received(self.peer.start())
        list(self.peer.receive(self.connection.take()))
        ((self.link, self.driver),) = self.service.links.by_id.items()
