"""What a pool keeps of descriptors: with their stamps, as evidence, and what has changed since it was last written."""

from __future__ import annotations

from dataclasses import dataclass, field

from phantomband.core.errors import Malformed
from phantomband.core.ids import NodeId
from phantomband.core.netdir.descriptor import SignedDescriptor


@dataclass(frozen=True, slots=True)
class Record:
    """A verified descriptor, and the stamp that it came with (empty: none)."""

    signed: SignedDescriptor
    stamp: bytes = b""


@dataclass(frozen=True, slots=True)
class Conviction:
    """Two descriptors that one node published at one time, or of two nodes that one identity made its successor;
    sorted by digest. `until` is in Unix seconds."""

    first: Record
    second: Record
    until: float

    @property
    def node_id(self) -> NodeId:
        """Who is convicted."""
        return accused(self.first, self.second)


def accused(one: Record, other: Record) -> NodeId:
    """Whom two contradicting descriptors convict.

    Raises:
        Malformed: they contradict nothing.
    """
    first, second = one.signed.descriptor, other.signed.descriptor
    if first.node_id == second.node_id and first.published == second.published:
        return first.node_id
    if first.node_id != second.node_id and first.predecessor is not None and first.predecessor == second.predecessor:
        return first.predecessor
    raise Malformed("two descriptors that contradict nothing")


@dataclass(slots=True)
class Changes:
    """What has changed since somebody last asked: digests of descriptors that came and that went, nodes convicted
    and acquitted. No digest stands in both of a pair."""

    added: set[bytes] = field(default_factory=set)
    removed: set[bytes] = field(default_factory=set)
    convicted: set[NodeId] = field(default_factory=set)
    acquitted: set[NodeId] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.convicted or self.acquitted)
