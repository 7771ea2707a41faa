"""What the directory service says of itself."""

from __future__ import annotations

from dataclasses import dataclass

from phantomband.core.ids import NodeId


@dataclass(frozen=True, slots=True)
class SpreadStatus:
    """Of table, gossip and tries."""

    contacts: int
    """Of the table."""
    records: int
    """Held for the table."""
    rounds: int
    """Of gossip in which a peer took part, begun by us."""
    bytes: int
    """Of gossip's requests and answers, ours and those served."""
    reached: int
    """Nodes that were reached where their newest descriptor says; 0 when nothing is voted here."""
    unreached: int
    convicted: int
    """Nodes that contradicted themselves and are left out."""


@dataclass(frozen=True, slots=True)
class Status:
    """For health checks and people."""

    node_id: NodeId
    voter: bool
    epoch: int
    view_epoch: int
    freshness: str
    """`none`, or a value of `Freshness`."""
    relays: int
    """In the view."""
    descriptors: int
    """Nodes in this directory's pool."""
    evidence: int
    """Proofs of misbehaviour found since the start."""
    dropped_calls: int
    measured: int
    """Relays of which this node's loops have said something."""
    clock: str
    """Whose clock is off, and by how much; empty when none is known to be."""
    stamp: str
    """Why there is no stamp, where one is needed; empty when all is well."""
    bad: tuple[NodeId, ...]
    """Those whose quality is under half."""
    spread: SpreadStatus
    storage: str
    """What does not work with the disk; empty if all does."""
    bugs: int
    """Errors that nobody expected; each ended one peer's request or began a loop anew."""
