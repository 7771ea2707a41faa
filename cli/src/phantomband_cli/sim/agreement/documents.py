"""Genesis, keys and descriptors of a simulated set of directories: real ones, from seeds."""

from __future__ import annotations

import hashlib
from functools import lru_cache

from phantomband.core.crypto.sign import IdentityKey
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.descriptor import Descriptor, SignedDescriptor, sign_descriptor
from phantomband.core.netdir.epoch import EpochClock
from phantomband.core.netdir.genesis import DirectoryInfo, Genesis

START = 1_790_000_000
LIFETIME_SECONDS = 7 * 86400


@lru_cache(maxsize=256)
def key_of(index: int) -> IdentityKey:
    """The identity of a node; directories come first."""
    return IdentityKey.generate(lambda size: hashlib.shake_256(b"agreement %d" % index).digest(size))


def genesis_of(directories: int, epoch_seconds: int) -> Genesis:
    infos = tuple(
        DirectoryInfo(f"dir{at}", key_of(at).public.raw, _key32("link", at), (_address(at),))
        for at in range(directories)
    )
    return Genesis("simulated", True, EpochClock(START, 0, epoch_seconds, epoch_seconds), 1, infos)


def descriptor_of(index: int, genesis: Genesis, published: int) -> SignedDescriptor:
    """A relay's descriptor, good for a week."""
    key = key_of(index)
    made = Descriptor(
        network_id=genesis.network_id,
        identity=key.public.raw,
        link_key=_key32("link", index),
        onion_key=_key32("onion", index),
        addresses=(_address(index),),
        exit_policy="",
        bandwidth=1_000_000 + index,
        family=(),
        nickname=f"node{index}",
        software="phantomband",
        mix="none",
        published=published,
        expires=published + LIFETIME_SECONDS,
    )
    return sign_descriptor(made, key)


def _address(index: int) -> NodeAddress:
    return NodeAddress("tcp", f"10.{index % 256}.{index // 256}.1", 9000)


def _key32(name: str, index: int) -> bytes:
    digest = hashlib.sha256(f"{name} {index}".encode()).digest()
    return digest[:31] + bytes((digest[31] & 0x7F,))  # an X25519 key has its top bit clear
