"""Sizes, times and limits of the table, its lookups and its records. All times in seconds.

Sources: Maymounkov, Mazieres, "Kademlia" (2002); Baumgart, Mies, "S/Kademlia" (2007).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Parameters:
    """One directory's. The last group switches defences, for simulations that show what each does."""

    bucket: int = 16
    """Contacts of one bucket (Kademlia's k), and most contacts of one answer."""
    siblings: int = 16
    """Contacts of the sibling list (S/Kademlia's s), and holders of a record."""
    paths: int = 4
    """Disjoint paths of a lookup (S/Kademlia's d), one request at a time each. The paper takes 4 to 8."""
    path_requests: int = 24
    """Requests of one path of a lookup, at most."""
    shortlist: int = 64
    """Contacts that one path of a lookup remembers: the closest."""
    agree: int = 4
    """Holders, on two paths at least, that announce the same record and so end a search early."""
    blame: int = 4
    """Contacts that did not answer, after which who named them in a lookup is not believed. One false id is enough."""
    fetches: int = 32
    """Holders that a search asks for the record itself, at most, one after the other."""

    near_limit: int = 1
    """Contacts of one /24 (IPv6 /48) in a bucket, in the sibling list, in the result of a lookup."""
    far_limit: int = 1
    """Contacts of one /16 (IPv6 /32) there."""
    far_table_limit: int = 8
    """Contacts of one /16 (IPv6 /32) in the whole table."""

    timeout: float = 1.5
    """Of one request."""
    failures: int = 2
    """Requests in a row without an answer that remove a contact."""
    quiet: float = 600.0
    """A contact that was heard from since is not asked whether it lives."""
    refresh: float = 3600.0
    """A bucket in which nothing was looked up for so long is refreshed (Kademlia's tRefresh)."""
    sibling_refresh: float = 900.0
    """How often a directory looks itself up."""
    republish: float = 1800.0
    """How often a publisher stores its record anew (Kademlia's tReplicate takes 3,600; sessions here are short)."""
    cache: float = 600.0
    """How long a directory keeps a record that lies outside its neighbourhood."""

    pending: int = 512
    """Requests without an answer yet."""
    operations: int = 64
    """Searches, publications and refreshes at once."""
    candidates: int = 64
    """Contacts that wait for the proof that they live."""
    proved: int = 2048
    """Contacts whose proof of identity is remembered."""

    records: int = 20_000
    """Records held; beyond it, those furthest from us go."""
    records_of_prefix: int = 64
    """Records that one /16 (IPv6 /32) may have handed in."""
    evidence: int = 64
    """Publishers whose equivocation is kept."""

    rate: float = 20.0
    """Requests a second of one /24 (IPv6 /48)."""
    burst: float = 200.0
    """Requests at once of one /24."""
    rated: int = 4096
    """Prefixes whose rate is remembered."""

    prove: bool = True
    """Contacts prove that they own their id. Off: the classical Kademlia, where an id is whatever is claimed."""
    keep_live: bool = True
    """A full bucket keeps its contacts while they answer. Off: the newest contact replaces the oldest."""
