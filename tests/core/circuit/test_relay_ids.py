"""A peer that uses a circuit id twice, or ends what is not yet made, leaves nothing behind."""

from __future__ import annotations

from phantomband.core.cell import LINK_CIRCUIT, Command, encode
from phantomband.core.circuit.messages import encode_create
from phantomband.core.circuit.relay_types import HandshakeJob
from phantomband.core.crypto.kem import encapsulate_untrusted
from phantomband.core.handshake.ntor import client_start
from phantomband.core.ids import HopNumber
from world import CLIENT, NETWORK_ID, World

ID = b"\0\0\0\x63"


class Slow:
    """A world whose first relay keeps its handshakes until told."""

    def __init__(self) -> None:
        self.world = World(relays=1)
        self.relay = self.world.relays["r1"]
        self.jobs: list[HandshakeJob] = []
        self.relay.handshake = self.jobs.append  # type: ignore[method-assign]

    def create(self) -> None:
        _, skin = client_start(self.relay.keys, NETWORK_ID, HopNumber(1), b"", self.world.random)
        self.world.inject(CLIENT, "r1", encode(ID, Command.CREATE, encode_create(1, skin)))
        self.world.run()

    def destroy(self, circuit: bytes) -> None:
        self.world.inject(CLIENT, "r1", encode(circuit, Command.DESTROY))
        self.world.run()

    def answer(self) -> None:
        jobs, self.jobs = self.jobs, []
        for job in jobs:
            reply, keys, _ = self.relay.responder.answer(
                job.onion_skin, job.hop, lambda _: b"", self.world.random, encapsulate_untrusted
            )
            self.relay.machine.handshake_done(job, reply, keys)
        self.world.run()


def test_a_circuit_destroyed_while_its_handshake_runs_is_not_made() -> None:
    for circuit in (ID, LINK_CIRCUIT):
        slow = Slow()
        slow.create()
        slow.destroy(circuit)
        slow.answer()
        assert slow.relay.machine.circuit_count == 0


def test_an_id_that_is_used_again_during_its_handshake_leaks_no_circuit() -> None:
    """Else 65,536 such pairs would fill the relay's table for good."""
    slow = Slow()
    for _ in range(3):
        slow.create()
        slow.destroy(ID)
    slow.create()
    assert len(slow.jobs) == 4
    slow.answer()
    assert slow.relay.machine.circuit_count <= 1
    slow.destroy(ID)
    assert slow.relay.machine.circuit_count == 0


def test_a_failed_handshake_is_answered_with_destroy_and_leaves_nothing() -> None:
    slow = Slow()
    slow.create()
    before = slow.world.carried.get(("r1", CLIENT), 0)
    slow.relay.machine.handshake_done(slow.jobs.pop(), None, None)
    slow.world.run()
    assert slow.world.carried["r1", CLIENT] == before + 1
    assert slow.relay.machine.circuit_count == 0
    slow.create()
    slow.answer()
    assert slow.relay.machine.circuit_count == 1


def test_an_id_of_the_listeners_half_is_refused() -> None:
    slow = Slow()
    _, skin = client_start(slow.relay.keys, NETWORK_ID, HopNumber(1), b"", slow.world.random)
    slow.world.inject(CLIENT, "r1", encode(b"\x80\0\0\1", Command.CREATE, encode_create(1, skin)))
    slow.world.inject(CLIENT, "r1", encode(LINK_CIRCUIT, Command.CREATE, encode_create(1, skin)))
    slow.world.run()
    assert not slow.jobs
    assert slow.relay.machine.counters.malformed == 2
