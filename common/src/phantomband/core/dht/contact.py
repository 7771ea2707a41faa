"""Where a directory is in the table and in the network, and how far it is from a key.

    contact = node id 32 | link key 32 | family 1 (4 or 6) | IP 4 or 16 | port 2

The node id is the hash of the identity (core/ids.py), so nobody picks its place without picking keys. A contact is a
claim until its node has proved it (proof.py). Distance is XOR, read as an integer (Kademlia, section 2.1).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv6Address

from phantomband.core.crypto.dh import check_public_untrusted
from phantomband.core.errors import Malformed
from phantomband.core.ids import NODE_ID_BYTES, NodeId
from phantomband.core.netdir.public_address import unwrapped
from phantomband.core.wire import Reader, u8, u16

KEY_BYTES = 32
"""A link key (X25519), and a key of the table (SHA3-256)."""

MAX_CONTACT_BYTES = NODE_ID_BYTES + KEY_BYTES + 1 + 16 + 2


def number(key: bytes) -> int:
    """A place in the table as an integer of 256 bits."""
    return int.from_bytes(key, "big")


def near_prefix(ip: bytes) -> bytes:
    """The /24 (IPv6 /48) of a packed address; of the IPv4 address in it, where there is one."""
    ip = _unwrapped(ip)
    return ip[: 3 if len(ip) == 4 else 6]


def far_prefix(ip: bytes) -> bytes:
    """The /16 (IPv6 /32) of a packed address; of the IPv4 address in it, where there is one."""
    ip = _unwrapped(ip)
    return ip[: 2 if len(ip) == 4 else 4]


def _unwrapped(ip: bytes) -> bytes:
    return ip if len(ip) != 16 else unwrapped(IPv6Address(ip)).packed


@dataclass(frozen=True, slots=True)
class Contact:
    """A directory: id, key of its links, packed IP address (4 or 16 bytes) and port."""

    node_id: NodeId
    link_key: bytes
    ip: bytes
    port: int
    number: int = field(init=False, compare=False, repr=False)
    near: bytes = field(init=False, compare=False, repr=False)
    """Its /24 (IPv6 /48)."""
    far: bytes = field(init=False, compare=False, repr=False)
    """Its /16 (IPv6 /32)."""

    def __post_init__(self) -> None:
        check_public_untrusted(self.link_key, "a contact's link key")
        if len(self.ip) not in (4, 16):
            raise Malformed("an IP address has 4 or 16 bytes")
        if not 1 <= self.port <= 65535:
            raise Malformed(f"port {self.port} is not between 1 and 65535")
        object.__setattr__(self, "number", number(self.node_id))
        object.__setattr__(self, "near", near_prefix(self.ip))
        object.__setattr__(self, "far", far_prefix(self.ip))

    def encode(self) -> bytes:
        return self.node_id + self.link_key + u8(4 if len(self.ip) == 4 else 6) + self.ip + u16(self.port)

    def __repr__(self) -> str:
        return f"Contact({self.node_id!r}, [scrubbed])"


def read_contact_untrusted(reader: Reader) -> Contact:
    """Takes one contact off `reader`.

    Raises:
        Malformed: cut, a link key that nobody can have, an unknown family, port 0.
    """
    node_id, link_key, family = NodeId(reader.take(NODE_ID_BYTES)), reader.take(KEY_BYTES), reader.u8()
    if family not in (4, 6):
        raise Malformed(f"unknown address family {family}")
    return Contact(node_id, link_key, reader.take(4 if family == 4 else 16), reader.u16())


def by_distance(contacts: Iterable[Contact], target: int) -> list[Contact]:
    """The closest first."""
    return sorted(contacts, key=lambda contact: contact.number ^ target)


class Diversity:
    """Counts contacts by prefix: at most `near_limit` of a /24 and `far_limit` of a /16."""

    __slots__ = ("_far", "_far_limit", "_near", "_near_limit")

    def __init__(self, near_limit: int, far_limit: int) -> None:
        self._near_limit, self._far_limit = near_limit, far_limit
        self._near: dict[bytes, int] = {}
        self._far: dict[bytes, int] = {}

    def allows(self, contact: Contact) -> bool:
        return self._far.get(contact.far, 0) < self._far_limit and self._near.get(contact.near, 0) < self._near_limit

    def add(self, contact: Contact) -> None:
        self._near[contact.near] = self._near.get(contact.near, 0) + 1
        self._far[contact.far] = self._far.get(contact.far, 0) + 1

    def remove(self, contact: Contact) -> None:
        """Forgets prefixes that nobody has any more: the tables stay as small as what they count."""
        for counter, prefix in ((self._near, contact.near), (self._far, contact.far)):
            counter[prefix] -= 1
            if counter[prefix] <= 0:
                del counter[prefix]


def diverse(contacts: Sequence[Contact], count: int, near_limit: int, far_limit: int) -> list[Contact]:
    """The first `count` of `contacts` that keep to the limits."""
    out: list[Contact] = []
    seen = Diversity(near_limit, far_limit)
    for contact in contacts:
        if len(out) == count:
            break
        if seen.allows(contact):
            seen.add(contact)
            out.append(contact)
    return out
