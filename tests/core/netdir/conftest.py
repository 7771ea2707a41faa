"""A small network to test with: deterministic keys, a genesis, descriptors, views."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import pytest
from phantomband.core.crypto.labels import SIGN_VIEW
from phantomband.core.crypto.sign import IdentityKey
from phantomband.core.ids import NodeId
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.certified import CertifiedView, certificate_message
from phantomband.core.netdir.descriptor import Descriptor
from phantomband.core.netdir.epoch import EpochClock
from phantomband.core.netdir.genesis import DirectoryInfo, Genesis
from phantomband.core.netdir.view import NO_DIGEST, View, ViewEntry, view_digest

START = 1_790_000_000


def seeded(seed: str) -> Callable[[int], bytes]:
    """A random source that gives the same bytes in each run."""
    counter = iter(range(2**32))

    def random(size: int) -> bytes:
        return hashlib.shake_256(f"{seed}/{next(counter)}".encode()).digest(size)

    return random


@lru_cache(maxsize=64)
def key_of(index: int) -> IdentityKey:
    return IdentityKey.generate(seeded(f"identity {index}"))


def key32(name: str) -> bytes:
    """32 bytes that can be an X25519 key: the top bit is clear."""
    digest = hashlib.sha256(name.encode()).digest()
    return digest[:31] + bytes((digest[31] & 0x7F,))


class World:
    """Makes the documents of one network."""

    start = START
    key = staticmethod(key_of)
    random = staticmethod(seeded)

    def genesis(self, n: int = 4, *, test_network: bool = True, min_relays: int = 1, startup: int = 4) -> Genesis:
        directories = tuple(
            DirectoryInfo(f"dir{i}", key_of(i).public.raw, key32(f"link {i}"), (self.address(i),)) for i in range(n)
        )
        return Genesis("test", test_network, EpochClock(START, startup, 1, 32), min_relays, directories)

    def address(self, index: int) -> NodeAddress:
        return NodeAddress("tcp", f"10.{index % 256}.0.1", 9000 + index)

    def descriptor(self, genesis: Genesis, index: int, **changes: object) -> Descriptor:
        made = Descriptor(
            network_id=genesis.network_id,
            identity=key_of(index).public.raw,
            link_key=key32(f"link {index}"),
            onion_key=key32(f"onion {index}"),
            addresses=(self.address(index),),
            exit_policy="accept *:80\naccept *:443" if index % 2 else "",
            bandwidth=1_000_000 + index,
            family=(),
            nickname=f"node{index}",
            software="phantomband 0.1.0",
            mix="none",
            published=START,
            expires=START + 1000,
            padding=f"constant:fixed:{index + 1}",
        )
        return replace(made, **changes)  # type: ignore[arg-type]

    def entry(self, index: int, **changes: object) -> ViewEntry:
        made = ViewEntry(
            node_id=NodeId(key32(f"node {index}")),
            link_key=key32(f"link {index}"),
            onion_key=key32(f"onion {index}"),
            previous_onion_key=key32(f"old {index}") if index % 3 == 0 else None,
            addresses=(self.address(index),),
            flags=7 if index % 2 else 1,
            weight=100 + index,
            exit_policy="accept *:80\naccept *:443" if index % 2 else "",
            family=b"",
            mix="none",
            nickname=f"node{index}",
            padding="adaptive:poisson:512",
        )
        return replace(made, **changes)  # type: ignore[arg-type]

    def view(self, genesis: Genesis, entries: list[ViewEntry], epoch: int = 1) -> View:
        clock = genesis.clock
        return View(
            genesis.network_id,
            epoch,
            clock.end(epoch),
            clock.fresh_until(epoch),
            clock.valid_until(epoch),
            NO_DIGEST,
            genesis.set_id,
            tuple(sorted(entries, key=lambda e: e.node_id)),
        )

    def certify(self, view: View, signers: list[int]) -> CertifiedView:
        encoded = view.encode()
        message = certificate_message(view.network_id, view.epoch, view.previous, view_digest(encoded), view.set_id)
        return CertifiedView(view, encoded, tuple((i, key_of(i).sign(message, SIGN_VIEW)) for i in signers))


@pytest.fixture(scope="session")
def world() -> World:
    return World()
