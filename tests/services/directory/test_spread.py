"""Table and gossip among real services: every directory comes to hold every descriptor, whoever cannot be reached."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from phantomband.core.crypto.sign import IdentityKey
from phantomband.core.dht.descriptor_record import item_of, record_of, verify_record_untrusted
from phantomband.core.dht.messages import Find, Ping, Pong, Store, StoreAnswer, decode_answer_untrusted, encode
from phantomband.core.dht.proof import IdentityProver
from phantomband.core.dht.reconcile import ItemSet, Reconciliation
from phantomband.core.dht.store import Outcome
from phantomband.core.ids import NodeId
from phantomband.core.netdir import replies, requests
from phantomband.core.netdir.descriptor import decode_untrusted, sign_descriptor
from phantomband.core.netdir.pool_records import Record
from phantomband_directory.gossip import MAX_OFFERED
from phantomband_directory.parts import Contact
from phantomband_directory.table_driver import Place

LOCAL = b"\x7f\0\0\1"


def service(network: Any, index: int) -> Any:
    return network.nodes[index].service


def held(network: Any, index: int) -> set[bytes]:
    return {one.node_id for one in service(network, index)._pool.newest()}


def own_of(network: Any, index: int) -> Any:
    return service(network, index)._announcer.current


def ask(network: Any, index: int, request: Any, key: bytes = b"", ip: bytes = LOCAL) -> replies.Reply:
    return replies.decode_reply_untrusted(service(network, index).answer(requests.encode_request(request), key, ip))


def link_key(network: Any, index: int) -> bytes:
    return network.node(index).gateway_facts.link_key


def place_of(network: Any, index: int) -> Place:
    address = network.address(index)
    return Place(network.key(index).node_id, link_key(network, index), address.ip.packed, address.port)


async def settled(network: Any, *indices: int) -> None:
    """Runs for a while after the start, so that table and gossip had their time."""
    network.start(*indices)
    await asyncio.sleep(60)


def test_every_node_comes_to_hold_every_descriptor(network_of: Any, virtual: Any) -> None:
    async def main() -> None:
        network = network_of(4)
        await settled(network, *range(12))
        everyone = {network.key(index).node_id for index in range(12)}
        assert all(held(network, index) == everyone for index in range(12))
        for index in range(12):
            spread = service(network, index).status().spread
            assert spread.contacts == 11
            assert spread.records >= 10
            assert spread.rounds > 0
            assert spread.bytes > 0

    virtual(main())


def test_a_node_that_reaches_no_directory_gets_into_the_view_through_others(network_of: Any, virtual: Any) -> None:
    """Node 9 was there before, has new keys, and none of the four that certify takes its calls."""

    async def main() -> None:
        network = network_of(4)
        await settled(network, *range(7), 9)
        await network.stop(9)
        await asyncio.sleep(80)
        assert "n9" not in network.names(0), "its descriptor has expired"
        network.nodes[9].relay_facts = replace(network.nodes[9].relay_facts, onion_key=b"n" * 32)
        network.cut = {(9, directory) for directory in range(4)}
        network.start(9)
        await asyncio.sleep(77)  # gossip may miss the first vote
        entry = service(network, 0).view.view.find(network.key(9).node_id)
        assert entry is not None
        assert entry.onion_key == b"n" * 32
        assert not any(source == 9 and target < 4 for source, target, kind, _ in network.calls[-500:])
        assert service(network, 9).view.view.epoch >= service(network, 0).view.view.epoch - 1, "it has the view too"

    virtual(main())


def test_a_newcomer_with_one_contact_alone_gets_in(network_of: Any, virtual: Any) -> None:
    async def main() -> None:
        network = network_of(4)
        await settled(network, *range(6))
        network.node(8).store.records.contacts = (place_of(network, 5).encode(),)
        network.cut = {(8, other) for other in range(5)}
        network.start(8)
        await asyncio.sleep(90)
        assert "n8" in network.names(0)
        assert "n8" in network.names(8)

    virtual(main())


def test_all_restart_at_once_and_have_view_and_descriptors_from_disk(network_of: Any, virtual: Any) -> None:
    async def main() -> None:
        network = network_of(4)
        await settled(network, *range(8))
        everyone = {network.key(index).node_id for index in range(8)}
        epoch = service(network, 0).view.view.epoch
        await network.stop(*range(8))
        network.start(*range(8))
        for index in range(8):
            assert held(network, index) == everyone
            assert service(network, index).view is not None
            assert service(network, index).status().spread.contacts == 7
        votable = {one.node_id for one in service(network, 0)._pool.votable(network.now())}
        assert votable == everyone, "members of the view count as reached"
        await network.run_to(epoch + 3)
        assert service(network, 7).view.view.epoch >= epoch + 2
        assert network.names(0) == {f"n{index}" for index in range(8)}

    virtual(main())


def test_gossip_is_for_members_and_bounded(network_of: Any, virtual: Any) -> None:
    async def main() -> None:
        network = network_of(4)
        await settled(network, *range(6))
        ranges = requests.Reconcile(Reconciliation(ItemSet(())).next_request() or b"")
        wanted = requests.GetRecords((network.key(3).node_id,))
        member = link_key(network, 2)
        assert isinstance(ask(network, 0, ranges, member), replies.ReconcileReply)
        assert ask(network, 0, wanted, member) == replies.Records(((b"", own_of(network, 3).encoded),))
        for stranger in (b"", b"s" * 32):
            for request in (ranges, wanted):
                reply = ask(network, 0, request, stranger)
                assert isinstance(reply, replies.RefusedReply)
                assert reply.code is replies.Code.NOT_HERE
        gossip = service(network, 0)._spread._gossip
        answers = [gossip.answer_untrusted(ranges.ranges, member) for _ in range(200)]
        assert isinstance(answers[-1], replies.RefusedReply)
        assert 32 < sum(isinstance(one, replies.ReconcileReply) for one in answers) <= 64
        assert isinstance(ask(network, 0, requests.Reconcile(b"junk"), link_key(network, 3)), replies.RefusedReply)

    virtual(main())


def test_a_round_moves_a_bounded_number(network_of: Any, virtual: Any) -> None:
    async def main() -> None:
        network = network_of(1)
        network.start(0, 1)
        await network.run_to(3)
        pool = service(network, 0)._pool
        now = int(network.now())
        for index in range(10, 60):
            made = replace(
                own_of(network, 1).descriptor, identity=network.key(index).public.raw, link_key=bytes([index]) * 32,
                published=now, expires=now + 600,
            )  # fmt: skip
            pool.add(sign_descriptor(made, network.key(index)), now)
        network.calls.clear()
        contact = Contact(network.key(1).node_id, link_key(network, 1), (network.address(1),))
        assert await service(network, 0)._spread._gossip.round_with(contact)
        published = [call for call in network.calls if call[2] == requests.Kind.PUBLISH and call[:2] == (0, 1)]
        assert len(published) == MAX_OFFERED
        await asyncio.sleep(30)
        assert len(held(network, 1)) == 52, "later rounds bring the rest"

    virtual(main())


def test_a_quiet_network_gossips_less(network_of: Any, virtual: Any) -> None:
    async def main() -> None:
        network = network_of(4)
        network.genesis = replace(network.genesis, clock=replace(network.genesis.clock, epoch_seconds=3600))
        network.start(*range(6))
        await asyncio.sleep(600)
        network.calls.clear()
        await asyncio.sleep(800)
        reconciles = [call for call in network.calls if call[2] == requests.Kind.RECONCILE]
        assert 6 * 6 < len(reconciles) < 6 * 25, "about one a minute each, one request a round"
        assert sum(size for *_, size in reconciles) < len(reconciles) * 200

    virtual(main())


def other_descriptor(network: Any, index: int) -> Any:
    """A second one of the node for the time of its newest: what it must not sign."""
    descriptor = replace(own_of(network, index).descriptor, onion_key=b"x" * 32)
    return sign_descriptor(descriptor, network.key(index))


def test_who_signs_two_for_one_time_is_left_out_everywhere(network_of: Any, virtual: Any) -> None:
    """Half the directories get one descriptor and half the other: gossip brings both to all."""

    async def main() -> None:
        network = network_of(4)
        network.start(*range(7))
        await network.run_to(2)
        assert "n6" in network.names(0)
        second = other_descriptor(network, 6)
        assert ask(network, 4, requests.Publish(second.encoded)) == replies.Accepted()
        node_id = network.key(6).node_id
        await asyncio.sleep(60)
        for index in range(6):
            assert service(network, index).status().spread.convicted == 1
            proof = service(network, index)._pool.conviction(node_id)
            assert {proof.first.signed.digest, proof.second.signed.digest} >= {second.digest}
            assert "n6" not in network.names(index)
        assert network.nodes[5].store.records.convicted.keys() == {node_id}
        until = {service(network, index)._pool.conviction(node_id).until for index in range(6)}
        assert until == {second.descriptor.expires + 24 * network.genesis.clock.epoch_seconds}
        await network.stop(*range(6))
        network.start(*range(6))
        assert not any(one.node_id == node_id for one in service(network, 0)._pool.votable(network.now()))
        newer = replace(second.descriptor, published=int(network.now()), expires=int(network.now()) + 100)
        refused = ask(network, 0, requests.Publish(sign_descriptor(newer, network.key(6)).encoded))
        assert isinstance(refused, replies.RefusedReply)
        await asyncio.sleep(until.pop() - network.now() + 60)
        assert service(network, 0).status().spread.convicted == 0
        assert "n6" in network.names(0), "it has served its time"

    virtual(main())


def test_the_table_serves_senders_that_are_where_they_say(network_of: Any, virtual: Any) -> None:
    async def main() -> None:
        network = network_of(1)
        network.start(0, 1)
        await network.run_to(3)
        mine, key = place_of(network, 5), link_key(network, 5)
        ping = Ping(b"n" * 16, mine, True)
        reply = ask(network, 0, requests.Table(encode(ping)), key)
        assert isinstance(reply, replies.TableReply)
        pong = decode_answer_untrusted(reply.message)
        assert isinstance(pong, Pong)
        IdentityProver(network.key(5)).check_untrusted(place_of(network, 0), b"n" * 16, mine.node_id, pong.proof)
        wrong = {
            "another link key": (ping, b"k" * 32, LOCAL),
            "no link key": (ping, b"", LOCAL),
            "another address": (ping, key, b"\x0a\0\0\1"),
            "no address": (ping, key, b""),
            "another family": (ping, key, bytes(15) + b"\1"),
        }
        for what, (message, peer, ip) in wrong.items():
            refused = ask(network, 0, requests.Table(encode(message)), peer, ip)
            assert isinstance(refused, replies.RefusedReply), what
            assert refused.code is replies.Code.MALFORMED, what
        find = requests.Table(encode(Find(b"m" * 16, mine, False, b"t" * 32)))
        reply = ask(network, 0, find, key)
        assert isinstance(reply, replies.TableReply)
        assert len(reply.message) <= len(find.message)

    virtual(main())


def test_a_record_that_gossip_did_not_bring_is_found_in_the_table(network_of: Any, virtual: Any) -> None:
    async def main() -> None:
        network = network_of(4)
        await settled(network, *range(8))
        spread, pool, wanted = service(network, 5)._spread, service(network, 5)._pool, network.key(7).node_id
        for one in pool._by_node.pop(wanted):
            pool._drop(one.digest)
        spread._gossip._draw = lambda: None
        network.cut = {(7, 5)}
        network.calls.clear()
        await asyncio.sleep(65)
        assert wanted in held(network, 5)
        kinds = {kind for source, _, kind, _ in network.calls if source == 5}
        assert requests.Kind.TABLE in kinds
        assert requests.Kind.GET_RECORDS not in kinds

    virtual(main())


def test_a_stored_record_climbs_the_ladder_and_enters_the_pool(network_of: Any, virtual: Any) -> None:
    async def main() -> None:
        network = network_of(1)
        network.start(0, 1)
        await network.run_to(3)
        now = int(network.now())
        made = replace(own_of(network, 1).descriptor, identity=network.key(5).public.raw, link_key=b"5" * 32)
        signed = sign_descriptor(replace(made, published=now, expires=now + 100), network.key(5))

        def store(encoded: bytes, nonce: bytes) -> Outcome:
            request = requests.Table(encode(Store(nonce * 16, place_of(network, 5), encoded)))
            reply = ask(network, 0, request, link_key(network, 5))
            assert isinstance(reply, replies.TableReply)
            answer = decode_answer_untrusted(reply.message)
            assert isinstance(answer, StoreAnswer)
            return answer.outcome

        record = record_of(Record(signed))
        assert store(record.encoded[:-1] + b"x", b"1") is Outcome.MALFORMED
        assert store(record.encoded[:500], b"2") is Outcome.MALFORMED
        assert store(b"\5stamp" + signed.encoded, b"3") is Outcome.MALFORMED
        assert signed.digest not in service(network, 0)._pool
        assert store(record.encoded, b"4") is Outcome.STORED
        assert signed.digest in service(network, 0)._pool
        assert store(record_of(Record(other_of(signed, network.key(5)))).encoded, b"5") in (
            Outcome.EQUIVOCATION,
            Outcome.MALFORMED,
        )
        assert service(network, 0).status().spread.convicted == 1

    virtual(main())


def other_of(signed: Any, key: IdentityKey) -> Any:
    return sign_descriptor(replace(signed.descriptor, nickname="other"), key)


def test_records_and_items_of_a_descriptor(network_of: Any, virtual: Any) -> None:
    async def main() -> None:
        network = network_of(1)
        network.start(0)
        await network.run_to(1)
        signed = own_of(network, 0)
        record = record_of(Record(signed, b"stamp"))
        assert (record.version, record.expires) == (signed.descriptor.published, signed.descriptor.expires)
        assert record.digest == signed.digest
        admitted: list[bytes] = []

        def admit(stamp: bytes, raw: bytes) -> Any:
            admitted.append(stamp)
            return decode_untrusted(raw, network.genesis.network_id)

        assert verify_record_untrusted(record.encoded, admit) == record
        assert admitted == [b"stamp"]
        item = item_of(signed)
        assert len(item) == 56
        assert NodeId(item[:32]) == signed.node_id

    virtual(main())
