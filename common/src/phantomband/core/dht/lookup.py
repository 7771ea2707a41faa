"""An iterative lookup over disjoint paths, as a state machine (S/Kademlia, section 4.4).

The first contacts are dealt out to d paths. Each path asks one contact at a time, the closest that no path has asked,
and learns only from its own answers. So a liar spoils the path that asked it; a path is spoilt for good only
when it met a liar before the neighbourhood of the target. A path ends when the s closest of its contacts were asked.
Honest directories name only contacts that proved themselves to them: who names one that cannot is no longer believed,
nor is who names several that do not answer. What failed is a contact, an id at one address: another path that knows the
same id at another address may ask it there, so a false address spoils an id for its own path only.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

from phantomband.core.dht.contact import Contact, Diversity, by_distance, diverse
from phantomband.core.dht.parameters import Parameters
from phantomband.core.ids import NodeId


@dataclass(frozen=True, slots=True)
class Held:
    """What a directory says that it holds under a key: the record's version, digest and encoded size in bytes."""

    version: int
    digest: bytes
    size: int


@dataclass(slots=True)
class _Path:
    known: list[tuple[int, Contact]] = field(default_factory=list)
    """With their distance to the target, closest first."""
    hops: dict[NodeId, int] = field(default_factory=dict)
    """Of each that is known."""
    namer: dict[NodeId, NodeId] = field(default_factory=dict)
    """Whose answer brought a contact."""
    waits: Contact | None = None
    requests: int = 0
    done: bool = False

    def forget(self, contact: Contact) -> None:
        """Not the id: that may be learned anew at another address."""
        for at, (_, known) in enumerate(self.known):
            if known == contact:
                del self.known[at]
                del self.hops[contact.node_id]
                self.namer.pop(contact.node_id, None)
                return


_distance = itemgetter(0)


class Lookup:
    """Finds the `siblings` contacts closest to `target`, and, with `search`, who announces a record there.

    At most `paths` * `path_requests` requests. Give every contact of `next_requests` one `answered` or `failed`.
    """

    def __init__(
        self, target: int, own: NodeId, first: Sequence[Contact], parameters: Parameters, *, search: bool = False
    ) -> None:
        self.target = target
        self._own, self._parameters, self._search = own, parameters, search
        self._paths = [_Path() for _ in range(parameters.paths)]
        self._asked: dict[NodeId, _Path] = {}  # but those that failed
        self._failed: set[Contact] = set()
        self._blamed: Counter[NodeId] = Counter()
        self._liars: set[NodeId] = set()
        self._answered: dict[NodeId, Contact] = {}
        self.held: dict[NodeId, Held] = {}
        for at, contact in enumerate(by_distance(first, target)):
            self._learn(self._paths[at % parameters.paths], contact, 1)

    @property
    def done(self) -> bool:
        return all(path.done for path in self._paths)

    @property
    def requests(self) -> int:
        """Made so far."""
        return sum(path.requests for path in self._paths)

    @property
    def hops(self) -> int:
        """Length of the longest chain of answers that led to an answer."""
        return max((path.hops[node] for node, path in self._asked.items() if node in self._answered), default=0)

    def next_requests(self) -> list[Contact]:
        """Whom to ask now: at most one contact for each path that waits for nobody."""
        out = []
        for path in self._paths:
            if path.done or path.waits is not None:
                continue
            contact = self._next(path)
            if contact is None or path.requests >= self._parameters.path_requests:
                path.done = True
                continue
            path.waits, path.requests = contact, path.requests + 1
            self._asked[contact.node_id] = path
            out.append(contact)
        return out

    def answered(self, peer: NodeId, contacts: Iterable[Contact], held: Held | None = None) -> None:
        """`peer` answered; who was not asked is ignored."""
        path = self._waiting(peer)
        if path is None or path.waits is None:
            return
        self._answered[peer], path.waits = path.waits, None
        if peer in self._liars:
            return
        limits = (self._parameters.bucket, self._parameters.near_limit, self._parameters.far_limit)
        for contact in diverse(by_distance(contacts, self.target), *limits):
            self._learn(path, contact, path.hops[peer] + 1, peer)
        self._trim(path)
        if held is not None and self._search:
            self.held[peer] = held
            if self._agreed(held):
                self.stop()

    def failed(self, peer: NodeId, *, forged: bool = False) -> None:
        """`peer` did not answer, or could not prove its id (`forged`)."""
        path = self._waiting(peer)
        if path is None or path.waits is None:
            return
        contact, path.waits = path.waits, None
        self._failed.add(contact)
        del self._asked[peer]
        for other in self._paths:
            if other is not path:
                other.forget(contact)
        if (namer := path.namer.get(peer)) is not None:
            self._blamed[namer] += self._parameters.blame if forged else 1
            if self._blamed[namer] >= self._parameters.blame:
                self._disbelieve(path, namer)

    def stop(self) -> None:
        """Asks nobody any more."""
        for path in self._paths:
            path.done = True

    def result(self) -> list[Contact]:
        """The closest contacts that answered, closest first, at most so many of one prefix."""
        p = self._parameters
        honest = (contact for node, contact in self._answered.items() if node not in self._liars)
        return diverse(by_distance(honest, self.target), p.siblings, p.near_limit, p.far_limit)

    def holders(self) -> list[Contact]:
        """Who announced a record, the newest version first, then the closest."""
        return sorted(
            (self._answered[node] for node in self.held),
            key=lambda contact: (-self.held[contact.node_id].version, contact.number ^ self.target),
        )

    def _waiting(self, peer: NodeId) -> _Path | None:
        path = self._asked.get(peer)
        return path if path is not None and path.waits is not None and path.waits.node_id == peer else None

    def _disbelieve(self, path: _Path, liar: NodeId) -> None:
        """Forgets what only `liar` named, unless it answered itself."""
        self._liars.add(liar)
        for node in [node for node, namer in path.namer.items() if namer == liar and node not in self._asked]:
            path.hops.pop(node, None)
            del path.namer[node]
        path.known = [pair for pair in path.known if pair[1].node_id in path.hops]

    def _learn(self, path: _Path, contact: Contact, hops: int, namer: NodeId | None = None) -> None:
        if contact.node_id != self._own and contact.node_id not in path.hops and contact not in self._failed:
            insort(path.known, (contact.number ^ self.target, contact), key=_distance)
            path.hops[contact.node_id] = hops
            if namer is not None:
                path.namer[contact.node_id] = namer

    def _trim(self, path: _Path) -> None:
        """Forgets the furthest contacts that were not asked."""
        furthest = path.known[self._parameters.shortlist :]
        for _, contact in furthest:
            if contact.node_id not in self._asked:
                del path.hops[contact.node_id]
                path.namer.pop(contact.node_id, None)
        path.known[self._parameters.shortlist :] = [pair for pair in furthest if pair[1].node_id in path.hops]

    def _next(self, path: _Path) -> Contact | None:
        """The closest that no path has asked, among the s closest that are diverse and have not failed."""
        counted, seen = 0, Diversity(self._parameters.near_limit, self._parameters.far_limit)
        for _, contact in path.known:
            if contact in self._failed or not seen.allows(contact):
                continue
            if contact.node_id not in self._asked:
                return contact
            seen.add(contact)
            counted += 1
            if counted == self._parameters.siblings:
                return None
        return None

    def _agreed(self, said: Held) -> bool:
        nodes = [node for node, held in self.held.items() if held == said]
        paths = {id(self._asked[node]) for node in nodes}
        return len(nodes) >= self._parameters.agree and len(paths) >= min(2, self._parameters.paths)
