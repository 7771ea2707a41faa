"""What the directory service needs of others, as interfaces: the tests give it fakes, `adapters.py` gives
it gRPC."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from phantomband.core.ids import NodeId
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.genesis import DirectoryInfo
from phantomband.core.netdir.voting_events import Memory


@dataclass(frozen=True, slots=True)
class GatewayFacts:
    """What the node's gateway says of itself: link key 32 bytes, and where it listens."""

    link_key: bytes
    addresses: tuple[NodeAddress, ...]


@dataclass(frozen=True, slots=True)
class RelayFacts:
    """What the node's relay says of itself: onion key 32 bytes, canonical exit policy (empty: no exit)."""

    onion_key: bytes
    exit_policy: str
    next_onion_key: bytes = bytes(32)
    """The key that follows, accepted already; zeros when the relay names none."""
    capacity: int = field(default=0, compare=False)
    """Most bytes a second that it relayed in any ten seconds of the last day. It changes all the time: alone it is no
    reason for a new descriptor."""


class NodeParts(Protocol):
    """The other services of this node."""

    async def gateway(self) -> GatewayFacts:
        """Raises: Refused when the gateway does not answer."""

    async def relay(self) -> RelayFacts:
        """Raises: Refused when the relay does not answer."""


@dataclass(frozen=True, slots=True)
class Contact:
    """How to reach the directory of another node: through its gateway."""

    node_id: NodeId
    link_key: bytes
    addresses: tuple[NodeAddress, ...]

    @classmethod
    def of(cls, directory: DirectoryInfo) -> Contact:
        return cls(directory.node_id, directory.link_key, directory.addresses)


class PeerNetwork(Protocol):
    """Calls other nodes' directories, by way of the gateways."""

    async def call(self, contact: Contact, request: bytes) -> bytes:
        """Sends one request and gives the reply.

        Raises:
            Refused: not reachable, or no reply.
        """

    async def ask(self, contact: Contact, request: bytes) -> tuple[bytes, bytes]:
        """The same. Returns: the reply, and the packed IP address (4 or 16 bytes; empty: not known) of the link that
        it came by, which may be one that the peer dialled.

        Raises:
            Refused: as `call`.
        """

    async def reach(self, contact: Contact) -> None:
        """Returns if a new link to one of the contact's addresses stood: who is there holds the contact's link key.

        Raises:
            Refused: nobody answers there, or somebody else.
        """


StampedBytes = tuple[bytes, bytes]
"""A stamp (empty: none) and a signed descriptor that was verified before it was saved."""


@dataclass(frozen=True, slots=True)
class SavedConviction:
    """Two descriptors that one node signed for one time; it is left out until `until`, Unix seconds."""

    until: float
    first: StampedBytes
    second: StampedBytes


@dataclass(slots=True)
class Batch:
    """Changes to be written at once."""

    descriptors: dict[bytes, StampedBytes] = field(default_factory=dict)
    """New ones, by digest."""
    gone: set[bytes] = field(default_factory=set)
    """Digests of those to be forgotten."""
    convicted: dict[NodeId, SavedConviction] = field(default_factory=dict)
    acquitted: set[NodeId] = field(default_factory=set)
    contacts: tuple[bytes, ...] | None = None
    """All contacts of the table (core/dht/contact.py), in place of those before; None: as they were."""


@dataclass(frozen=True, slots=True)
class Saved:
    """What was on disk."""

    descriptors: list[StampedBytes] = field(default_factory=list)
    convictions: list[SavedConviction] = field(default_factory=list)
    contacts: list[bytes] = field(default_factory=list)
    published: int = -1
    """Time that this node's newest descriptor names; -1: it never signed one."""


class Store(Protocol):
    """What outlives the process. Each save is on disk when it returns.

    Loads raise UserError when what is there cannot be used; all raise OSError when the disk is full, read-only or
    broken: then what was there before still is.
    """

    def load_view(self) -> bytes | None: ...
    def save_view(self, certified: bytes) -> None: ...
    def load_memory(self) -> Memory: ...
    def save_memory(self, memory: Memory) -> None: ...
    def load_records(self) -> Saved: ...

    def save_records(self, batch: Batch) -> bool:
        """Returns: whether all before it is lost (a damaged file was replaced) and must be saved again."""

    def save_published(self, published: int) -> None: ...
    def load_changes(self) -> list[bytes]: ...
    def save_changes(self, changes: list[bytes]) -> None: ...
    def save_evidence(self, name: str, first: bytes, second: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """What the operator says of the node."""

    nickname: str
    """At most 32 letters, digits and . _ -; stands in the view for people, proves nothing."""

    software: str
    """Version of this software, for example `phantomband 0.1.0`."""

    bandwidth: int
    """Bytes a second that the node is willing to carry."""

    family: tuple[NodeId, ...] = ()
    """Other nodes of the same operator; each must name this one too."""

    mix: str = "none"
    """Mixing strategy of the node's mixer, with its parameters."""

    padding: str = "off"
    """How the node's gateway paces its links."""

    listed: bool = True
    """Whether the descriptor is handed to anybody but who asks this node for it."""

    succession: bytes = b""
    """Empty, or what the node's previous identity signed (core/netdir/descriptor.py)."""
