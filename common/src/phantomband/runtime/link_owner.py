"""What a link driver asks of whoever has links: told of their life, and what there is of padding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from phantomband.core.dircall import DirectoryMessage
from phantomband.core.shaping import Shape

if TYPE_CHECKING:
    from phantomband.runtime.link_driver import LinkDriver


class LinkOwner(Protocol):
    """Who has links. Called on the event loop."""

    def link_established(self, driver: LinkDriver, peer_key: bytes | None) -> None: ...

    def link_cells(self, driver: LinkDriver, cells: bytearray | bytes) -> None:
        """Whole cells, without the link's own: PAD, DIRECTORY and SHAPE of circuit 0."""

    def link_directory(self, driver: LinkDriver, message: DirectoryMessage) -> None: ...

    def link_overflow(self, driver: LinkDriver, circuit: bytes) -> None:
        """The queue of this circuit was given up."""

    def link_closed(self, driver: LinkDriver) -> None:
        """Called once: the link is no more, whether or not it had been established."""

    def link_released(self, driver: LinkDriver) -> None:
        """Called once, last: its connection is closed too. A link that failed lingers until then."""


class Paddings(Protocol):
    """What there is of padding for dialers that ask."""

    def take(self, link: LinkDriver, shape: Shape, own: Shape) -> bool:
        """Whether there is room for `shape` on `link`, in place of what it has. Args: own: what is done anyway."""

    def give_back(self, link: LinkDriver) -> None:
        """The link is gone."""
