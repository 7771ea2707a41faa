"""The routing table: k-buckets by the length of the common prefix, and the list of siblings next to us.

Kademlia, section 2.2; S/Kademlia, sections 4.1 and 4.2. What keeps an attacker out:
- Only contacts enter that have proved that they live and own their id (the caller, node.py, sees to it).
- A live contact is never put out for a newer one: a full bucket asks its longest silent contact first.
- At most so many contacts of one /24 and one /16 in a bucket, in the sibling list and in the whole table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from phantomband.core.dht.contact import Contact, Diversity, by_distance
from phantomband.core.dht.parameters import Parameters
from phantomband.core.ids import NodeId

UNLIMITED = 1 << 62


@dataclass(slots=True)
class Entry:
    """A contact in the table; `place` is its bucket's number, or -1 in the sibling list."""

    contact: Contact
    seen: float
    place: int
    failures: int = 0


class _Group:
    """A bucket, or the sibling list: contacts in the order of their coming, and how diverse they are."""

    __slots__ = ("entries", "prefixes", "touched")

    def __init__(self, parameters: Parameters) -> None:
        self.entries: list[Entry] = []
        self.prefixes = Diversity(parameters.near_limit, parameters.far_limit)
        self.touched = 0.0

    def add(self, entry: Entry) -> None:
        self.entries.append(entry)
        self.prefixes.add(entry.contact)

    def remove(self, entry: Entry) -> None:
        self.entries.remove(entry)
        self.prefixes.remove(entry.contact)


SIBLINGS = -1


class RoutingTable:
    """All contacts of one directory: at most 256 buckets of `bucket` each, and `siblings` more."""

    def __init__(self, own: Contact, parameters: Parameters) -> None:
        self._own, self._parameters = own, parameters
        self._entries: dict[NodeId, Entry] = {}
        self._groups: dict[int, _Group] = {SIBLINGS: _Group(parameters)}
        self._at: dict[int, list[Entry]] = {}
        """All entries, the siblings too, by the bits of their distance from us."""
        self._all = Diversity(UNLIMITED, parameters.far_table_limit)
        self._furthest: Entry | None = None
        """Of the siblings, once they are as many as there may be."""

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, node_id: object) -> bool:
        return node_id in self._entries

    def contacts(self) -> list[Contact]:
        return [entry.contact for entry in self._entries.values()]

    def siblings(self) -> list[Contact]:
        """Closest to us first."""
        return by_distance((entry.contact for entry in self._groups[SIBLINGS].entries), self._own.number)

    def closest(self, target: int, count: int) -> list[Contact]:
        """The `count` contacts closest to `target`, closest first; who did not answer last time is not named."""
        found: list[Contact] = []
        for near in self._by_nearness(target):
            if len(found) >= count:
                break
            found += by_distance((one.contact for one in near if not one.failures), target)
        return found[:count]

    def wants(self, contact: Contact) -> bool:
        """Whether a place could be found for it: worth the price of a proof."""
        if contact.node_id in self._entries or contact.node_id == self._own.node_id or not self._all.allows(contact):
            return False
        if self._sibling_place(contact):
            return True
        group = self._groups.get(self._bucket(contact))
        return group is None or group.prefixes.allows(contact)

    def add(self, contact: Contact, now: float) -> Contact | None:
        """Puts a proved contact in, where the limits allow.

        Returns: the longest silent contact of its full bucket, or None. Nothing was put in then: ask that contact
            whether it lives, and add `contact` again if it was removed.
        """
        if not self.wants(contact):
            return None
        if self._sibling_place(contact):
            self._add_sibling(contact, now)
            return None
        return self._add_to_bucket(Entry(contact, now, self._bucket(contact)))

    def heard(self, contact: Contact, now: float) -> None:
        """It answered us."""
        if (entry := self._entries.get(contact.node_id)) is not None and entry.contact == contact:
            entry.seen, entry.failures = now, 0

    def failed(self, contact: Contact) -> None:
        """It did not answer; removed after so many times in a row."""
        entry = self._entries.get(contact.node_id)
        if entry is not None and entry.contact == contact:
            entry.failures += 1
            if entry.failures >= self._parameters.failures:
                self._remove(entry)

    def silent(self, now: float) -> list[Contact]:
        """Siblings not heard from lately: the list that records depend on is kept fresh."""
        limit = now - self._parameters.quiet
        return [entry.contact for entry in self._groups[SIBLINGS].entries if entry.seen < limit]

    def quiet(self, contact: Contact, now: float) -> bool:
        """Whether it was not heard from lately."""
        entry = self._entries.get(contact.node_id)
        return entry is not None and entry.seen < now - self._parameters.quiet

    def touched(self, target: int, now: float) -> None:
        """A lookup for `target` ends here: its bucket needs no refresh."""
        if (group := self._groups.get((target ^ self._own.number).bit_length())) is not None:
            group.touched = now

    def stale(self, now: float) -> list[int]:
        """Buckets to be refreshed. Bucket n is the distances of n bits; `place_in` gives a target in one."""
        limit = now - self._parameters.refresh
        return [place for place, group in self._groups.items() if place != SIBLINGS and group.touched <= limit]

    def place_in(self, bucket: int, random: int) -> int:
        """A target in `bucket`, from `random` of 256 bits."""
        top = 1 << (bucket - 1)
        return self._own.number ^ (top | (random & (top - 1)))

    def _bucket(self, contact: Contact) -> int:
        return (contact.number ^ self._own.number).bit_length()

    def _sibling_place(self, contact: Contact) -> bool:
        group = self._groups[SIBLINGS]
        if not group.prefixes.allows(contact):
            return False
        furthest = self._furthest
        return furthest is None or self._distance(contact) < self._distance(furthest.contact)

    def _distance(self, contact: Contact) -> int:
        return contact.number ^ self._own.number

    def _siblings_changed(self) -> None:
        entries = self._groups[SIBLINGS].entries
        full = len(entries) >= self._parameters.siblings
        self._furthest = max(entries, key=lambda entry: self._distance(entry.contact)) if full else None

    def _by_nearness(self, target: int) -> Iterator[list[Entry]]:
        """All entries in lots, each lot closer to `target` than the next.

        Who is at n bits of distance from us, where `target` is too, is at less than n bits from it. Who is closer
        to us is at n bits from it, and who is at m > n bits from us is at m bits from it.
        """
        bits = (target ^ self._own.number).bit_length()
        yield self._at.get(bits, [])
        yield [entry for place, entries in self._at.items() if place < bits for entry in entries]
        yield from (self._at[place] for place in sorted(self._at) if place > bits)

    def _add_sibling(self, contact: Contact, now: float) -> None:
        """The furthest sibling moves to its bucket, if that has room."""
        if (moved := self._furthest) is not None:
            self._take_out(moved)
            moved.place = self._bucket(moved.contact)
            self._add_to_bucket(moved)
        self._insert(Entry(contact, now, SIBLINGS))

    def _add_to_bucket(self, entry: Entry) -> Contact | None:
        group = self._groups.setdefault(entry.place, _Group(self._parameters))
        if not group.prefixes.allows(entry.contact):
            return None
        if len(group.entries) >= self._parameters.bucket:
            oldest = min(group.entries, key=lambda one: one.seen)
            if self._parameters.keep_live:
                return oldest.contact
            self._remove(oldest)
        self._insert(entry)
        return None

    def _insert(self, entry: Entry) -> None:
        self._entries[entry.contact.node_id] = entry
        self._groups[entry.place].add(entry)
        self._at.setdefault(self._bucket(entry.contact), []).append(entry)
        self._all.add(entry.contact)
        if entry.place == SIBLINGS:
            self._siblings_changed()

    def _take_out(self, entry: Entry) -> None:
        del self._entries[entry.contact.node_id]
        self._groups[entry.place].remove(entry)
        self._at[self._bucket(entry.contact)].remove(entry)
        self._all.remove(entry.contact)
        if entry.place == SIBLINGS:
            self._siblings_changed()

    def _remove(self, entry: Entry) -> None:
        self._take_out(entry)
        if entry.place == SIBLINGS:
            self._promote()

    def _promote(self) -> None:
        """A free place in the sibling list goes to the closest contact of the buckets that fits."""
        group = self._groups[SIBLINGS]
        for place in sorted(self._groups)[1:]:
            fits = [entry for entry in self._groups[place].entries if group.prefixes.allows(entry.contact)]
            if fits:
                entry = min(fits, key=lambda one: self._distance(one.contact))
                self._groups[place].remove(entry)
                entry.place = SIBLINGS
                group.add(entry)
                self._siblings_changed()
                return
