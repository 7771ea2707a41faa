"""What a directory does with lookups: refresh its table, search a record, publish one.

A search looks up the key, then asks the announced holders for the record, newest version first, until one verifies. A
publication looks up the key, then stores at the siblings found there.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto

from phantomband.core.dht.contact import Contact
from phantomband.core.dht.lookup import Lookup
from phantomband.core.dht.messages import Message
from phantomband.core.dht.record import SignedRecord


class Goal(Enum):
    REFRESH = auto()
    SEARCH = auto()
    PUBLISH = auto()


@dataclass(slots=True)
class Operation:
    """One lookup and what follows it."""

    number: int
    goal: Goal
    key: bytes
    lookup: Lookup
    started: float
    record: SignedRecord | None = None
    holders: deque[Contact] | None = None
    """Whom a search may still ask; None while the lookup goes on."""
    fetching: bool = False
    storing: int = 0
    """STOREs without an answer."""
    stored: int = 0
    rejected: set[bytes] = field(default_factory=set)
    """Digests whose record was not what was announced."""


@dataclass(frozen=True, slots=True)
class Send:
    """To be sent to `contact` over a link that proves the contact's link key (a request), or back on the link that the
    request came by (an answer)."""

    contact: Contact
    message: Message


@dataclass(frozen=True, slots=True)
class Finished:
    """An operation ended. `record` is what a search found; `stored` how many hold a published one."""

    number: int
    goal: Goal
    key: bytes
    record: SignedRecord | None
    stored: int
    hops: int
    requests: int
    seconds: float
