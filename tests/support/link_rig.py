"""Both ends of a link: drivers with fake connections and owners."""

from __future__ import annotations

from collections.abc import Callable

from fakes import FakeConnection, FakeOwner
from phantomband.core.cell import Command, encode
from phantomband.core.crypto.kem import encapsulate_untrusted
from phantomband.core.ids import NodeId
from phantomband.core.link import LinkKey, dial, listen
from phantomband.runtime.link_driver import LinkDriver
from virtual import run_virtual
from world import Seeded

NETWORK, NODE = bytes(32), NodeId(b"n" * 32)
LISTENER, DIALER = LinkKey(b"l" * 32), LinkKey(b"d" * 32)
CELL = encode(b"\0\0\0\1", Command.RELAY, b"payload")


class End:
    """A driver with its fake connection and owner."""

    def __init__(self, *, incoming: bool, seed: int = 1, key: LinkKey | None = None) -> None:
        random = Seeded(seed)
        if incoming:
            machine = listen(NETWORK, NODE, LISTENER, random, encapsulate_untrusted)
        else:
            machine = dial(NETWORK, NODE, LISTENER.public, key, random)
        self.owner, self.connection = FakeOwner(), FakeConnection()
        self.driver = LinkDriver(machine, self.owner, random, incoming=incoming)
        self.driver.attach(self.connection)


def shake(dialer: End, listener: End) -> None:
    for _ in range(3):
        pump(dialer, listener)
    assert dialer.driver.established
    assert listener.driver.established


def pump(dialer: End, listener: End) -> None:
    """Carries what was written, both ways."""
    listener.driver.received(dialer.connection.take())
    dialer.driver.received(listener.connection.take())


def pair(key: LinkKey | None = None) -> tuple[End, End]:
    dialer, listener = End(incoming=False, key=key), End(incoming=True, seed=2)
    shake(dialer, listener)
    return dialer, listener


def virtual(test: Callable[[], None]) -> None:
    """Runs a test that needs a running loop, but awaits nothing."""

    async def main() -> None:
        test()

    run_virtual(main())
