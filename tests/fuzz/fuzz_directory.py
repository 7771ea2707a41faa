"""Any bytes from any peer get one reply within the limits; nothing raises, nothing grows, nobody is let in.

Run: `make fuzz TARGETS=directory`.
"""

from __future__ import annotations

import hashlib

from phantomband.core.crypto.sign import IdentityKey
from phantomband.core.dht.contact import Contact as Place
from phantomband.core.dht.descriptor_record import record_of
from phantomband.core.dht.messages import Find, Get, Ping, Store, encode
from phantomband.core.dht.reconcile import ItemSet, Reconciliation
from phantomband.core.errors import Refused
from phantomband.core.netdir import replies, requests
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.descriptor import Descriptor, SignedDescriptor, sign_descriptor
from phantomband.core.netdir.epoch import EpochClock
from phantomband.core.netdir.genesis import DirectoryInfo, Genesis
from phantomband.core.netdir.pool_records import Record
from phantomband.core.netdir.voting_events import BallotKind, Memory
from phantomband_directory.parts import Batch, Contact, GatewayFacts, NodeSettings, RelayFacts, Saved
from phantomband_directory.service import DirectoryService
from virtual import VirtualLoop

START = 1_790_000_000
LOCAL = b"\x7f\0\0\1"
STRANGER = b"s" * 32
PEERS = ((b"", b""), (b"m" * 32, LOCAL), (STRANGER, bytes(16)), (b"", LOCAL), (STRANGER, b""))
"""(link key, IP address) that the gateway may say; the second is a directory's."""


def _seeded(seed: str) -> IdentityKey:
    return IdentityKey.generate(lambda size: hashlib.shake_256(seed.encode()).digest(size))


KEYS = [_seeded(f"fuzz {index}") for index in range(3)]
LINKS = (b"k" * 32, b"m" * 32, b"o" * 32)


class _Nothing:
    """Gateway, relay, network and disk of a node that has none."""

    async def gateway(self) -> GatewayFacts:
        raise Refused("none")

    async def relay(self) -> RelayFacts:
        raise Refused("none")

    async def call(self, contact: Contact, request: bytes) -> bytes:
        raise Refused("none")

    async def ask(self, contact: Contact, request: bytes) -> tuple[bytes, bytes]:
        raise Refused("none")

    async def reach(self, contact: Contact) -> None:
        raise Refused("none")

    def load_view(self) -> bytes | None:
        return None

    def load_changes(self) -> list[bytes]:
        return []

    def save_changes(self, changes: list[bytes]) -> None:
        pass

    def load_memory(self) -> Memory:
        return Memory()

    def load_records(self) -> Saved:
        return Saved()

    def save_view(self, certified: bytes) -> None: ...

    def save_memory(self, memory: Memory) -> None: ...

    def save_published(self, published: int) -> None: ...

    def save_evidence(self, name: str, first: bytes, second: bytes) -> None: ...

    def save_records(self, batch: Batch) -> bool:
        return False


def _address(index: int) -> NodeAddress:
    return NodeAddress("tcp", "127.0.0.1", 9000 + index)


GENESIS = Genesis(
    "fuzz", True, EpochClock(START, 0, 1, 600), 1,
    tuple(DirectoryInfo(f"d{i}", KEYS[i].public.raw, LINKS[i], (_address(i),)) for i in range(2)),
)  # fmt: skip


def _descriptor(index: int, published: int, **changes: object) -> SignedDescriptor:
    fields: dict[str, object] = {
        "network_id": GENESIS.network_id, "identity": KEYS[index].public.raw, "link_key": LINKS[index],
        "onion_key": b"o" * 32, "addresses": (_address(index),), "exit_policy": "", "bandwidth": 10**6, "family": (),
        "nickname": f"n{index}", "software": "x", "mix": "none", "published": published,
        "expires": published + 6 * 86400,
    }  # fmt: skip
    return sign_descriptor(Descriptor(**{**fields, **changes}), KEYS[index])  # type: ignore[arg-type]


class _World:
    """One service, whose clock goes on by a second each time that it is asked."""

    def __init__(self) -> None:
        self.now = float(START + 10)
        nothing = _Nothing()
        self.service = DirectoryService(
            GENESIS, KEYS[0], NodeSettings("n0", "x", 1), nothing, nothing, lambda: self.now, bytes, nothing
        )
        self.service._accept_own(_descriptor(0, START))
        self.service._intake.take_untrusted(b"", _descriptor(1, START).encoded)

    def ask(self, data: bytes, peer: bytes, ip: bytes) -> bytes:
        self.now += 1.0
        LOOP._jumping.passed += 1.0
        return self.service.answer(data, peer, ip)


async def _made() -> _World:
    return _World()


LOOP = VirtualLoop()
WORLD = LOOP.run_until_complete(_made())
LOOP.close()
OTHER = _descriptor(2, START)
PLACE = Place(KEYS[1].node_id, LINKS[1], LOCAL, 9001)
NONCE = bytes(range(16))

SEEDS = [
    *(
        requests.encode_request(one)
        for one in (
            requests.GetView(0),
            requests.Publish(OTHER.encoded[:-9] + bytes(9)),
            requests.Publish(OTHER.encoded, b"stamp"),
            requests.Publish(_descriptor(1, START).encoded),
            requests.GetDescriptors((b"d" * 32,)),
            requests.Ballot(BallotKind.VOTE, b"vote"),
            requests.GetVotes(1, (b"d" * 32,)),
            requests.Reconcile(Reconciliation(ItemSet(())).next_request() or b""),
            requests.GetRecords(tuple(sorted((KEYS[0].node_id, KEYS[2].node_id)))),
            requests.Table(encode(Ping(NONCE, PLACE, True))),
            requests.Table(encode(Find(NONCE, PLACE, False, b"t" * 32))),
            requests.Table(encode(Get(NONCE, PLACE, b"t" * 32, 6000))),
            requests.Table(encode(Store(NONCE, PLACE, record_of(Record(OTHER)).encoded[:-9] + bytes(9)))),
        )
    ),
    bytes(70_000),
]


def one_input(data: bytes) -> None:
    """Sends `data` as it is, and as the body of each of the newer requests, from every kind of peer."""
    bodies = (data, *(bytes((kind,)) + data for kind in (0x02, 0x0D, 0x0E, 0x0F)))
    for body in bodies:
        for peer, ip in PEERS:
            answer = WORLD.ask(body, peer, ip)
            reply = replies.decode_reply_untrusted(answer)
            if isinstance(reply, replies.TableReply) and len(answer) > len(body):
                raise AssertionError("an answer of the table is larger than its request")
            if not peer and isinstance(reply, replies.Records | replies.ReconcileReply | replies.TableReply):
                raise AssertionError("gossip or table for somebody without a key")
    if OTHER.digest in WORLD.service._pool or len(WORLD.service._pool) != 2:
        raise AssertionError("something got into the pool that nobody signed")
