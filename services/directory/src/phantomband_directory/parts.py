"""What the directory service needs of others, as interfaces: the tests give it fakes, `adapters.py` gives
it gRPC."""

from __future__ import annotations

from dataclasses import dataclass
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


class Store(Protocol):
    """What outlives the process. Each save is on disk when it returns."""

    def load_view(self) -> bytes | None: ...
    def save_view(self, certified: bytes) -> None: ...
    def load_memory(self) -> Memory: ...
    def save_memory(self, memory: Memory) -> None: ...
    def load_descriptors(self) -> list[bytes]: ...
    def save_descriptors(self, descriptors: list[bytes]) -> None: ...
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
