"""What newcomers pay and what they may not do yet; sets of directories that change; identities that are succeeded."""

from __future__ import annotations

import asyncio
from typing import Any

from phantomband.core.errors import Refused
from phantomband.core.netdir import replies, requests
from phantomband.core.netdir.changes import propose
from phantomband.core.netdir.descriptor import sign_succession
from phantomband.core.netdir.genesis import DirectoryInfo, Terms
from phantomband.core.netdir.view import Flags
from phantomband.core.work.difficulty import DifficultyRule
from phantomband.core.work.equihash import TINY, Parameters
from phantomband.core.work.stamp import Challenge
from phantomband_cli.work.solver import make_stamp

WORK = Terms(TINY, DifficultyRule(floor=1, ceiling=6, expected=1, window=2), probation_epochs=6, notice_epochs=2)


class RealSolver:
    """The solver itself, in this process; `lazy` nodes have none."""

    def __init__(self, lazy: set[bytes]) -> None:
        self.lazy = lazy
        self.made = 0

    async def solve(self, challenge: Challenge, parameters: Parameters, bits: int) -> bytes:
        if bytes(challenge.node_id) in self.lazy:
            raise Refused("no solver here")
        self.made += 1
        return make_stamp(challenge, parameters, bits, self.made << 32, 4096)


def entry_of(network: Any, name: str, at: int = 0) -> Any:
    view = network.nodes[at].service.view.view
    return next((entry for entry in view.entries if entry.nickname == name), None)


def test_who_pays_gets_in_and_who_does_not_stays_out(network_of: Any, virtual: Any) -> None:
    async def main() -> None:
        network = network_of(4, terms=WORK)
        network.solver = solver = RealSolver({bytes(network.key(5).node_id)})
        network.start(*range(6))
        await network.run_to(4)
        assert network.names(0) == {f"n{i}" for i in range(5)}
        made = solver.made
        assert made == 5, "one stamp a node"
        raw = network.nodes[5].service._announcer.current.encoded
        for stamp in (b"", b"x" * 60):
            reply = network.nodes[0].service.answer(requests.encode_request(requests.Publish(raw, stamp)), b"p" * 32)
            assert replies.decode_reply_untrusted(reply).code in (replies.Code.MALFORMED, replies.Code.FULL)
        solver.lazy.clear()
        await asyncio.sleep(12)  # when the solver is tried again
        await network.run_to(network.genesis.clock.epoch_at(network.now()) + 1)
        assert "n5" in network.names(0)

    virtual(main())


def test_difficulty_follows_the_joins(network_of: Any, virtual: Any) -> None:
    async def main() -> None:
        network = network_of(1, terms=WORK)
        network.solver = RealSolver(set())
        network.start(0)
        await network.run_to(3)
        bits = [network.nodes[0].service.view.view.bits]
        for first in (10, 20, 30):
            network.start(*range(first, first + 9))
            epoch = network.genesis.clock.epoch_at(network.now())
            await network.run_to(epoch + 1)
            bits.append(network.nodes[0].service.view.view.bits)
        assert bits[0] == 1
        assert bits[0] < bits[1] < bits[2] <= bits[3]

    virtual(main())


def test_newcomers_are_neither_guard_nor_exit_until_probation_is_over(network_of: Any, virtual: Any) -> None:
    async def main() -> None:
        network = network_of(4, terms=WORK)
        network.solver = RealSolver(set())
        network.start(*range(5))
        await network.run_to(8)
        assert entry_of(network, "n4").has(Flags.GUARD | Flags.EXIT), "the network is as young"
        network.start(5)
        await network.run_to(10)
        new = entry_of(network, "n5")
        assert new is not None
        assert not new.flags & (Flags.GUARD | Flags.EXIT)
        await network.run_to(new.since + 5)
        assert not entry_of(network, "n5").flags & (Flags.GUARD | Flags.EXIT)
        await network.run_to(new.since + 6)
        late = entry_of(network, "n5")
        assert late.has(Flags.GUARD | Flags.EXIT)
        assert late.since == new.since

    virtual(main())


def test_an_identity_that_is_succeeded_keeps_its_standing(network_of: Any, virtual: Any) -> None:
    async def main() -> None:
        network = network_of(4, terms=WORK)
        network.solver = RealSolver(set())
        network.start(*range(6))
        await network.run_to(8)
        old = entry_of(network, "n5")
        await network.stop(5)
        network.node(6).settings = type(network.node(6).settings)(
            nickname="heir",
            software="test",
            bandwidth=10**6,
            succession=sign_succession(network.key(5), network.genesis.network_id, network.key(6).node_id),
        )
        network.node(7)  # comes without any
        network.start(6, 7)
        await network.run_to(11)
        heir, stranger = entry_of(network, "heir"), entry_of(network, "n7")
        assert (heir.since, heir.has(Flags.GUARD)) == (old.since, True)
        assert stranger.since > old.since
        assert not stranger.has(Flags.GUARD)
        assert entry_of(network, "n5") is None, "nobody is there twice"

    virtual(main())


def test_the_set_of_directories_changes_by_its_own_quorum(network_of: Any, virtual: Any) -> None:
    """Two of seven are replaced; views go on, nobody is told by hand but the one directory that the change is given."""

    async def main() -> None:
        network = network_of(7)
        network.start(*range(10))
        await network.run_to(3)
        genesis, clock = network.genesis, network.genesis.clock
        added = [
            DirectoryInfo(
                f"dir{i}", network.key(i).public.raw, network.node(i).gateway_facts.link_key, (network.address(i),)
            )
            for i in (7, 8)
        ]
        acts_at = clock.epoch_at(network.now()) + 3
        change = propose(genesis, 1, acts_at, [network.key(0).node_id, network.key(1).node_id], added)
        for index in range(5):
            change = change.signed_by(index, network.key(index))
        reply = network.nodes[3].service.answer(requests.encode_request(requests.SubmitChange(change.encode())), b"")
        assert replies.decode_reply_untrusted(reply) == replies.Accepted()
        await network.run_to(acts_at - 1)
        assert network.nodes[9].service.view.view.pending == change.digest, "announced before it acts"
        await network.run_to(acts_at)
        await network.stop(0, 1)
        await network.run_to(acts_at + 3)
        epochs = network.view_epochs()
        assert {epochs[i] for i in (2, 3, 4, 5, 6, 7, 8)} == {acts_at + 3}, "old and new directories, after the change"
        view = network.nodes[9].service.view
        assert (view.view.set_id != genesis.set_id, len(view.signatures) >= 5) == (True, True)
        assert {i for i in range(10) if i in epochs and network.nodes[i].service.status().voter} == {
            2,
            3,
            4,
            5,
            6,
            7,
            8,
        }
        assert network.nodes[9].store.changes == [change.encode()], "an ordinary node follows"
        sleeper = network.node(11)
        network.start(11)
        await network.run_to(acts_at + 4)
        await asyncio.sleep(2)
        assert sleeper.service.status().view_epoch >= acts_at + 3, (
            "whoever knows the genesis file only follows the chain"
        )

    virtual(main())
