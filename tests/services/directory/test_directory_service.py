"""Whole directories together: they certify, heal, remember, and give nothing to liars."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from phantomband.core.crypto.sign import IdentityKey
from phantomband.core.errors import UserError
from phantomband.core.netdir import replies, requests
from phantomband.core.netdir.ballot import Vote, sign_vote
from phantomband.core.netdir.certified import verify_untrusted
from phantomband.core.netdir.codec import SIGNATURE_BYTES
from phantomband.core.netdir.voting_events import BallotKind, Memory
from phantomband_directory import council
from phantomband_directory.limits import TEST_NETWORK
from phantomband_directory.parts import Saved
from phantomband_directory.store import FileStore, load_or_create_identity


def test_four_directories_and_two_relays_have_a_view_within_two_seconds(network_of: Any, virtual: Any) -> None:
    async def main() -> None:
        network = network_of(4, min_relays=6)
        for index in range(6):
            network.node(index)
        network.start(*range(6))
        await network.run_to(2)
        assert set(network.view_epochs().values()) <= {1, 2}
        assert network.names(5) == {f"n{i}" for i in range(6)}
        entries = network.nodes[5].service.view.view.entries
        declared = {(e.nickname, e.mix, e.padding) for e in entries}
        assert declared == {(f"n{i}", "timed:0.02", f"constant:fixed:{i + 1}") for i in range(6)}

    virtual(main())


def test_relays_whose_loops_are_lost_get_less_weight_once_most_directories_saw_it(
    network_of: Any, virtual: Any
) -> None:
    async def main() -> None:
        network = network_of(4, min_relays=6)
        for index in range(6):
            network.node(index)
        network.start(*range(6))
        await network.run_to(2)
        bad = network.nodes[5].service.status().node_id

        def weights() -> dict[str, int]:
            return {e.nickname: e.weight for e in network.nodes[5].service.view.view.entries}

        before = weights()
        network.nodes[0].service.observe([(bad, 0, 1000, 0.0)])
        await network.run_to(4)
        assert weights() == before, "one directory alone, or one liar, changes nothing"
        for index in (1, 2, 3):
            network.nodes[index].service.observe([(bad, 0, 1000, 0.0)])
        await network.run_to(6)
        after = weights()
        assert after["n5"] < before["n5"] / 10
        assert {n: w for n, w in after.items() if n != "n5"} == {n: w for n, w in before.items() if n != "n5"}
        status = network.nodes[1].service.status()
        assert (status.measured, status.bad) == (1, (bad,))

    virtual(main())


def test_one_directory_works_alone(network_of: Any, virtual: Any) -> None:
    async def main() -> None:
        network = network_of(1)
        network.start(0, 1)
        await network.run_to(3)
        assert network.view_epochs()[0] == 3
        assert network.names(0) == {"n0", "n1"}

    virtual(main())


def test_one_dead_certifies_two_dead_keep_the_old_view(network_of: Any, virtual: Any) -> None:
    async def main() -> None:
        network = network_of(4)
        network.start(0, 1, 2, 3, 4)
        await network.run_to(3)
        await network.stop(3)
        await network.run_to(6)
        assert network.view_epochs()[0] == 6
        await network.stop(2)
        await network.run_to(9)
        assert network.view_epochs()[0] == 6
        service = network.nodes[0].service
        assert service.status().freshness == "valid"
        assert service.is_fresh
        network.start(2)
        await network.run_to(10)
        assert network.view_epochs()[0] == 10

    virtual(main())


def test_an_equivocating_voter_is_dropped(network_of: Any, virtual: Any) -> None:
    """Directory 3 signs one vote for directory 0 and another for the rest."""

    async def main() -> None:
        network = network_of(4)
        network.start(0, 1, 2, 3)
        await network.run_to(2)

        def lie(source: int, target: int, request: bytes) -> bytes:
            if source == 3 and target == 0 and request[0] == requests.Kind.VOTE:
                vote = Vote.decode_untrusted(request[1:])
                key = IdentityKey(key_bytes)
                return requests.encode_request(
                    requests.Ballot(BallotKind.VOTE, sign_vote(replace(vote, entries=()), key))
                )
            return request

        key_bytes = network.nodes[3].service._key.private_bytes()
        network.tamper = lie
        await network.run_to(5)
        assert all(network.view_epochs()[i] == 5 for i in (0, 1, 2))
        assert all(any("vote-3" in name.lower() for name in network.nodes[i].store.evidence) for i in (0, 1, 2))
        assert network.names(0) == {"n0", "n1", "n2", "n3"}

    virtual(main())


def test_a_restart_from_disk_signs_no_second_digest(network_of: Any, virtual: Any) -> None:
    async def main() -> None:
        network = network_of(4)
        network.start(0, 1, 2, 3)
        await network.run_to(11)
        clock = network.genesis.clock
        await asyncio.sleep(clock.cutoff(12) + 0.1 - network.now())  # voted and signed in epoch 12
        before = network.nodes[1].store.memory
        assert (before.voted_epoch, before.signed_epoch) == (12, 12)
        await network.stop(1)
        network.nodes[1].relay_facts = replace(network.nodes[1].relay_facts, onion_key=b"n" * 32)
        network.start(1)
        await network.run_to(12)
        assert network.nodes[1].store.memory == before
        await network.run_to(13)
        signed = {w.split("/")[1]: set() for w in network.nodes[1].store.writes}
        for write in network.nodes[1].store.writes:
            _, epoch, digest = write.split("/")
            signed[epoch].add(digest)
        assert all(len(digests) == 1 for digests in signed.values())
        assert set(network.view_epochs().values()) == {13}
        node = network.nodes[0].service.view.view
        entry = next(e for e in node.entries if e.nickname == "n1")
        assert entry.onion_key == b"n" * 32

    virtual(main())


def test_a_newcomer_is_in_within_two_epochs_and_a_leaver_is_out_when_expired(network_of: Any, virtual: Any) -> None:
    async def main() -> None:
        network = network_of(4)
        network.start(0, 1, 2, 3)
        await network.run_to(12)
        network.start(7)
        await network.run_to(14)
        assert "n7" in network.names(0)
        assert "n7" in network.names(7)
        await network.stop(7)
        await network.run_to(20)
        assert "n7" not in network.names(0)
        assert network.names(0) == {"n0", "n1", "n2", "n3"}

    virtual(main())


def test_keys_changed_by_a_restart_within_the_same_second_come_through(network_of: Any, virtual: Any) -> None:
    async def main() -> None:
        network = network_of(4)
        network.start(0, 1, 2, 3)
        await network.run_to(1)
        for turn in range(4):
            network.start(6)
            await asyncio.sleep(0.05)
            await network.stop(6)
            network.nodes[6].relay_facts = replace(network.nodes[6].relay_facts, onion_key=bytes([turn]) * 32)
        network.start(6)
        await network.run_to(8)
        entry = network.nodes[0].service.view.view.find(network.nodes[6].service.status().node_id)
        assert entry.onion_key == bytes([3]) * 32

    virtual(main())


def test_all_restart_from_disk_and_go_on(network_of: Any, virtual: Any) -> None:
    async def main() -> None:
        network = network_of(4)
        network.start(*range(5))
        await network.run_to(12)
        await network.stop(*range(5))
        network.start(*range(5))
        assert all(network.view_epochs()[i] == 12 for i in range(4))
        assert network.view_epochs()[4] >= 11  # asks a little after the view took effect
        await network.run_to(13)
        assert network.view_epochs()[0] == 13
        assert network.names(0) == {f"n{i}" for i in range(5)}
        view = network.nodes[0].store.view
        verify_untrusted(view, network.genesis, network.now(), 13)

    virtual(main())


@pytest.mark.parametrize("stored", [b"", b"no view", b"\1\0\x40\0\0" + bytes(4 * 1024 * 1024)])
def test_a_stored_view_that_no_reader_takes_is_done_without(stored: bytes, network_of: Any, virtual: Any) -> None:
    """Whatever a quorum signed or a disk made of it: directories start, or the network could not heal."""

    async def main() -> None:
        network = network_of(4)
        for index in range(4):
            network.node(index)
        network.start(*range(4))
        await network.run_to(3)
        await network.stop(*range(4))
        for index in range(4):
            network.nodes[index].store.view = stored
        network.start(*range(4))
        assert all("cannot be used" in node.service.status().storage for node in network.nodes.values())
        await network.run_to(5)
        assert set(network.view_epochs().values()) == {5}
        assert not any(node.service.status().storage for node in network.nodes.values())

    virtual(main())


def test_watchers_get_each_newer_view(network_of: Any, virtual: Any) -> None:
    async def main() -> None:
        network = network_of(1)
        network.start(0)
        seen: list[int] = []

        async def watch() -> None:
            async for raw in network.nodes[0].service.watch():
                seen.append(verify_untrusted(raw, network.genesis, network.now(), 0).view.epoch)
                if len(seen) == 3:
                    return

        await asyncio.wait_for(watch(), 10)
        assert seen == [1, 2, 3]

    virtual(main())


def test_requests_are_refused_alike_and_limited(network_of: Any, virtual: Any) -> None:
    async def main() -> None:
        network = network_of(1)
        network.start(0, 5)
        service = network.nodes[0].service

        def ask(raw: bytes, peer: bytes = b"") -> replies.Reply:
            return replies.decode_reply_untrusted(service.answer(raw, peer))

        assert ask(requests.encode_request(requests.GetView(0))) == replies.NotNewer(0)
        await network.run_to(2)
        reply = ask(requests.encode_request(requests.GetView(0)))
        assert isinstance(reply, replies.ViewReply)
        epoch = service.status().view_epoch
        assert ask(requests.encode_request(requests.GetView(epoch))) == replies.NotNewer(epoch)
        own = network.nodes[5].service._announcer.current.encoded
        assert ask(requests.encode_request(requests.Publish(own))) == replies.Accepted()
        forged = own[:100] + b"x" + own[101:-SIGNATURE_BYTES] + bytes(SIGNATURE_BYTES)
        answers = {
            service.answer(raw, b"")
            for raw in (
                b"",
                b"\xff",
                requests.encode_request(requests.Publish(forged)),
                b"\x04junk",
                bytes(70000),
            )
        }
        assert len(answers) == 1
        assert isinstance(replies.decode_reply_untrusted(answers.pop()), replies.RefusedReply)
        other = network.nodes[5].service.answer(requests.encode_request(requests.Publish(own)), b"")
        assert replies.decode_reply_untrusted(other) == replies.Accepted(), "any node takes descriptors"
        vote = network.nodes[5].service.answer(b"\x04junk", b"")
        assert replies.decode_reply_untrusted(vote).code is replies.Code.NOT_HERE
        burst = int(TEST_NETWORK.strangers[1] + TEST_NETWORK.reserve[1])
        busy = [ask(b"\x01" + bytes(8), b"p" * 32) for _ in range(burst + 1)][-1]
        assert isinstance(busy, replies.RefusedReply)
        assert busy.code is replies.Code.BUSY

    virtual(main())


def test_files(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "state", b"n" * 32)
    assert (store.load_view(), store.load_memory(), store.load_records()) == (None, Memory(), Saved())
    store.save_view(b"view")
    store.save_memory(Memory((3,), ((2, b"d" * 32),)))
    again = FileStore(tmp_path / "state", b"n" * 32)
    assert again.load_view() == b"view"
    assert again.load_memory() == Memory((3,), ((2, b"d" * 32),))
    old = {"network": (b"n" * 32).hex(), "voted_epoch": 7, "signed_epoch": 6, "signed_digest": "64" * 32}
    (tmp_path / "state" / "memory.json").write_text(json.dumps(old))
    assert again.load_memory() == Memory((7,), ((6, b"d" * 32),)), "a file of before epochs were remembered one by one"
    with pytest.raises(UserError, match="another network"):
        FileStore(tmp_path / "state", b"m" * 32).load_memory()
    (tmp_path / "state" / "memory.json").write_text("{}")
    with pytest.raises(UserError, match="damaged"):
        again.load_memory()


def test_identity_file(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "identity"
    key = load_or_create_identity(path, lambda n: bytes(range(n)))
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_or_create_identity(path, lambda n: bytes(n)).node_id == key.node_id
    path.chmod(0o640)
    with pytest.raises(UserError, match="chmod 600"):
        load_or_create_identity(path, bytes)
    path.chmod(0o600)
    path.write_bytes(b"short")
    with pytest.raises(UserError):
        load_or_create_identity(path, bytes)


def test_votes_too_long_for_a_request_are_announced_and_fetched(
    network_of: Any, virtual: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(council, "MAX_REQUEST_BYTES", 3900)  # a vote on six nodes has more, an echo less

    async def main() -> None:
        network = network_of(4, min_relays=6)
        kinds: list[int] = []

        def tamper(source: int, target: int, request: bytes) -> bytes:
            kinds.append(request[0])
            return request

        network.tamper = tamper
        network.start(*range(6))
        await network.run_to(4)
        assert network.view_epochs()[5] >= 3
        assert requests.Kind.VOTE not in kinds
        assert {requests.Kind.VOTE_HELD, requests.Kind.GET_VOTES, requests.Kind.ECHO} <= set(kinds)

    virtual(main())


def test_only_a_directory_itself_announces_its_vote(network_of: Any, virtual: Any) -> None:
    async def main() -> None:
        network = network_of(4)
        network.start(*range(4))
        await network.run_to(2)
        held = requests.encode_request(requests.VoteHeld(3, 2, bytes(32)))
        keys = [network.nodes[index].gateway_facts.link_key for index in range(4)]
        answers = [replies.decode_reply_untrusted(network.nodes[0].service.answer(held, key)) for key in (*keys, b"")]
        assert [isinstance(answer, replies.Accepted) for answer in answers] == [False, False, True, False, False]

    virtual(main())
