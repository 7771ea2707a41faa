"""Who there is: contacts with their networks, and warm routing tables."""

from __future__ import annotations

import random
from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence

from phantomband.core.dht.contact import Contact
from phantomband.core.dht.node import DirectoryNode
from phantomband.core.ids import NodeId

ID_BITS = 256
TRIES = 96
"""Contacts that are tried for a bucket of a warm table, at most."""


class Addresses:
    """Draws contacts: ids as random as hashes, IPv4 addresses all over the net, or within few /16 for Sybils."""

    def __init__(self, dice: random.Random, sybil_networks: int) -> None:
        self._dice = dice
        self._networks = [self._bytes(2) for _ in range(sybil_networks)]

    def anywhere(self) -> Contact:
        return self._contact(self._bytes(4))

    def sybil(self) -> Contact:
        return self._contact(self._dice.choice(self._networks) + self._bytes(2))

    def chosen(self, number: int, network: int) -> Contact:
        """A Sybil with an id of its choice, in the network of that index."""
        return self._contact(self._networks[network] + self._bytes(2), number)

    def near(self, target: int, like: Contact) -> Contact:
        """A made-up id next to `target`, at the address and with the link key of `like`."""
        number = target ^ self._dice.getrandbits(200)
        return Contact(NodeId(number.to_bytes(32, "big")), like.link_key, like.ip, like.port)

    def _contact(self, ip: bytes, number: int | None = None) -> Contact:
        node_id = self._bytes(32) if number is None else number.to_bytes(32, "big")
        return Contact(NodeId(node_id), self._bytes(31) + b"\1", ip, 1 + self._dice.randrange(65535))

    def _bytes(self, count: int) -> bytes:
        return self._dice.getrandbits(8 * count).to_bytes(count, "big")


class Directory:
    """All contacts sorted by id, to find those of one prefix of ids."""

    def __init__(self, contacts: Sequence[Contact]) -> None:
        self._contacts = {contact.number: contact for contact in contacts}
        self._numbers = sorted(self._contacts)

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[Contact]:
        return iter(self._contacts.values())

    def add(self, contact: Contact) -> None:
        self._contacts[contact.number] = contact
        insort(self._numbers, contact.number)

    def remove(self, contact: Contact) -> None:
        if self._contacts.pop(contact.number, None) is not None:
            del self._numbers[bisect_left(self._numbers, contact.number)]

    def closest(self, target: int, count: int) -> list[Contact]:
        """The closest to `target` by XOR, exactly: those that share the longest prefix with it come first."""
        low, high, bits = 0, len(self._numbers), ID_BITS
        while bits:
            start = (target >> (bits - 1)) << (bits - 1)
            left = bisect_left(self._numbers, start, low, high)
            right = bisect_left(self._numbers, start + (1 << (bits - 1)), low, high)
            if right - left < count:
                break
            low, high, bits = left, right, bits - 1
        found = sorted(self._numbers[low:high], key=lambda number: number ^ target)[:count]
        return [self._contacts[number] for number in found]

    def within(self, low: int, high: int, count: int, dice: random.Random) -> list[Contact]:
        """Up to `count` different ones, at random, with ids from `low` up to `high`."""
        left, right = bisect_left(self._numbers, low), bisect_left(self._numbers, high)
        picked = range(left, right) if right - left <= count else dice.sample(range(left, right), count)
        out = [self._contacts[self._numbers[at]] for at in picked]
        dice.shuffle(out)
        return out


def warm(node: DirectoryNode, everyone: Directory, dice: random.Random, now: float) -> None:
    """Fills a table as a long life would: who came first, at random, is in, within the table's own limits."""
    own = node.own.number
    for contact in everyone.closest(own, 6 * node.parameters.siblings)[1:]:
        node.table.add(contact, now - dice.random() * node.parameters.quiet)
    for bits in range(ID_BITS, 0, -1):
        low = ((own >> (bits - 1)) ^ 1) << (bits - 1)
        contacts = everyone.within(low, low + (1 << (bits - 1)), TRIES, dice)
        for contact in contacts:
            node.table.add(contact, now - dice.random() * node.parameters.quiet)
        node.table.touched(low, now - dice.random() * node.parameters.refresh)
        if not contacts:
            break
