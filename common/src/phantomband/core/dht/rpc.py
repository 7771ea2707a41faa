"""Requests of ours that wait for an answer: each with a nonce, a deadline, and whom it concerns."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum, auto

from phantomband.core.dht.contact import Contact


class Purpose(Enum):
    """Why a request was made."""

    LIVE = auto()
    """Is an old contact still there? `newcomer` waits for its place."""
    CANDIDATE = auto()
    """Does a new contact live, and own its id?"""
    LOOKUP = auto()
    FETCH = auto()
    STORE = auto()


@dataclass(frozen=True, slots=True)
class Pending:
    """A request without an answer. `operation` is 0 where it belongs to none."""

    nonce: bytes
    contact: Contact
    purpose: Purpose
    operation: int
    proves: bool
    deadline: float
    newcomer: Contact | None = None


class PendingRequests:
    """At most `limit`, in the order of their deadlines (all have the same timeout)."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pending: OrderedDict[bytes, Pending] = OrderedDict()

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def full(self) -> bool:
        return len(self._pending) >= self._limit

    @property
    def deadline(self) -> float | None:
        """When the oldest is given up, seconds."""
        return next(iter(self._pending.values())).deadline if self._pending else None

    def add(self, pending: Pending) -> None:
        self._pending[pending.nonce] = pending

    def take(self, nonce: bytes, contact: Contact) -> Pending | None:
        """The request that an answer with that nonce from that contact belongs to."""
        pending = self._pending.get(nonce)
        return self._pending.pop(nonce) if pending is not None and pending.contact == contact else None

    def overdue(self, now: float) -> list[Pending]:
        """Takes out those whose deadline has come."""
        out = []
        while self._pending and (self.deadline or 0.0) <= now:
            out.append(self._pending.popitem(last=False)[1])
        return out
