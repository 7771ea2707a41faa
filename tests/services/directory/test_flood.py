"""A flood of bogus descriptors: pool and view stay as they are, memory stays where it is."""

from __future__ import annotations

import gc
import random
import resource
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from phantomband.core.dht.messages import Store, StoreAnswer, decode_answer_untrusted, encode
from phantomband.core.dht.store import Outcome
from phantomband.core.netdir import replies, requests
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.admission import AdmissionRule
from phantomband.core.netdir.codec import SIGNATURE_BYTES
from phantomband.core.netdir.descriptor import sign_descriptor
from phantomband.core.work.equihash import TINY
from phantomband.core.work.stamp import stamp_bytes
from phantomband_directory.limits import MAX_BUCKETS
from phantomband_directory.table_driver import Place

MAX_GROWTH_BYTES = 4 * 1024 * 1024
"""In the last quarter of the flood."""


def public(network_of: Any) -> Any:
    """A network in which the limits by address are in force."""

    class Public(network_of):  # type: ignore[misc]
        def __init__(self, n: int) -> None:
            super().__init__(n)
            self.genesis = replace(self.genesis, test_network=False)

        @staticmethod
        def address(index: int) -> NodeAddress:
            return NodeAddress("tcp", f"9.{index}.0.1", 9000)

    return Public(1)


@dataclass
class Flood:
    """Requests of many kinds from many keys and networks."""

    source: random.Random
    good: Any
    own_key: Any
    expired: bytes
    future: bytes
    answers: int = 0

    def requests(self, count: int) -> Iterator[tuple[bytes, bytes, bytes]]:
        """(request, link key, IP address)."""
        kinds = (
            self.junk, self.stamp, self.form, self.signature, self.from_future, self.replayed, self.huge, self.stored,
            self.gossip,
        )  # fmt: skip
        for index in range(count):
            key = (2 + self.source.randrange(20_000)).to_bytes(32, "little") if index % 5 else b""
            ip = bytes((9, self.source.randrange(200, 250), self.source.randrange(256), 1))
            yield kinds[index % len(kinds)](key, ip), key, ip

    def publish(self, raw: bytes, stamp: bytes = b"") -> bytes:
        return requests.encode_request(requests.Publish(raw, stamp))

    def changed(self) -> bytearray:
        """The good one under another nickname: it is not known, and its signature is wrong."""
        raw = bytearray(self.good.encoded)
        at = raw.rindex(self.good.descriptor.nickname.encode(), 0, len(raw) - SIGNATURE_BYTES)
        raw[at] = self.source.choice(b"abcdefghijklmopqrstuvwxyz")
        return raw

    def junk(self, key: bytes, ip: bytes) -> bytes:
        return b"\2" + self.source.randbytes(self.source.randrange(1, 8000))

    def stamp(self, key: bytes, ip: bytes) -> bytes:
        return self.publish(bytes(self.changed()), self.source.randbytes(stamp_bytes(TINY)))

    def form(self, key: bytes, ip: bytes) -> bytes:
        raw = self.changed()
        del raw[self.source.randrange(2100, len(raw) - SIGNATURE_BYTES)]
        return self.publish(bytes(raw))

    def signature(self, key: bytes, ip: bytes) -> bytes:
        return self.publish(bytes(self.changed()))

    def from_future(self, key: bytes, ip: bytes) -> bytes:
        return self.publish(self.future)

    def replayed(self, key: bytes, ip: bytes) -> bytes:
        return self.publish(self.expired)

    def huge(self, key: bytes, ip: bytes) -> bytes:
        return self.publish(bytes(1_000_000))

    def stored(self, key: bytes, ip: bytes) -> bytes:
        place = Place(self.own_key.node_id, key or b"k" * 32, ip, 1)
        return requests.encode_request(requests.Table(encode(Store(bytes(16), place, b"\0" + bytes(self.changed())))))

    def gossip(self, key: bytes, ip: bytes) -> bytes:
        return requests.encode_request(requests.Reconcile(self.source.randbytes(200)))


@pytest.mark.parametrize(
    ("count", "work"),
    [(4_500, False), (4_500, True), pytest.param(100_000, False, marks=pytest.mark.slow)],
)
def test_bogus_descriptors_change_nothing(network_of: Any, virtual: Any, count: int, work: bool) -> None:
    async def main() -> None:
        network = public(network_of)
        network.start(0, 1, 2)
        await network.run_to(3)
        service = network.nodes[0].service
        good = network.nodes[1].service._announcer.current
        if work:
            service._admission._rule = AdmissionRule(parameters=TINY)
        now, source = int(network.now()), random.Random("flood")
        flood = Flood(
            source,
            good,
            network.key(9),
            sign_descriptor(replace(good.descriptor, published=now - 900, expires=now - 9), network.key(1)).encoded,
            sign_descriptor(replace(good.descriptor, published=now + 900, expires=now + 999), network.key(1)).encoded,
        )
        before = sorted(service._pool.digests()), service.view.digest, service._pool.version
        clock = [float(now)]
        service._now = service._intake._now = lambda: clock[0]
        middle, used, mark = 0, 0.0, 0.0
        refused = dict.fromkeys(replies.Code, 0)
        for index, (request, key, ip) in enumerate(flood.requests(count)):
            clock[0] += 60 / count
            begun = time.process_time()
            answer = service.answer(request, key, ip)
            used += time.process_time() - begun
            reply = replies.decode_reply_untrusted(answer)
            if isinstance(reply, replies.TableReply):
                assert decode_answer_untrusted(reply.message) == StoreAnswer(bytes(16), Outcome.MALFORMED)
                refused[replies.Code.MALFORMED] += 1
            else:
                assert isinstance(reply, replies.RefusedReply)
                refused[reply.code] += 1
            if index == count * 3 // 4:
                gc.collect()
                tracemalloc.start()
                middle = tracemalloc.get_traced_memory()[0]
                mark = used
        gc.collect()  # what is only waiting to be collected is not held
        grown = tracemalloc.get_traced_memory()[0] - middle
        tracemalloc.stop()
        assert (sorted(service._pool.digests()), service.view.digest, service._pool.version) == before
        assert grown < MAX_GROWTH_BYTES
        assert len(service._answers._limits) <= 14 * MAX_BUCKETS
        assert refused[replies.Code.MALFORMED] > count // 10, "the rest is more than strangers may ask"
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        per = 1e6 * mark / (count * 3 // 4)
        print(f"{count} requests: {per:.0f} us of CPU each, grown by {grown} bytes, {peak} MiB")
        print({code.name: n for code, n in refused.items()}, dict(service._admission.counts))

    virtual(main())
