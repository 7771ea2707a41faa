"""A message that ends its circuit is the last of its batch that is heard: no stream begins that nobody would end."""

from __future__ import annotations

import pytest
from phantomband.core.circuit.client import CircuitState
from phantomband.core.circuit.messages import encode_extend
from phantomband.core.circuit.relay_types import RelayLimits
from phantomband.core.handshake.ntor import CLIENT_BYTES
from phantomband.core.ids import NodeId
from phantomband.core.onion import OWN
from phantomband.core.stream.messages import Message, encode, encode_target, target
from world import World

NOBODY = NodeId(b"x" * 32)
BEGIN = encode(Message.BEGIN, 1, encode_target(target("192.0.2.1", 80)))
EXTEND = encode(Message.EXTEND, 0, encode_extend(NOBODY, bytes(CLIENT_BYTES)))


@pytest.mark.parametrize("extends", [0, 256], ids=["no room to wait", "no link"])
def test_no_stream_begins_behind_the_end_of_its_circuit(extends: int) -> None:
    world = World(relays=1, limits=RelayLimits(extends_per_link=extends))
    circuit = world.built("r1")
    relay = world.relays["r1"]
    circuit._send(1, [OWN + EXTEND, OWN + BEGIN, OWN + BEGIN])
    world.run()
    assert circuit.state is CircuitState.GONE
    assert relay.exit.opened == []
    assert relay.machine.circuit_count == 0
    assert relay.machine.counters.bugs == 0


def test_what_stands_before_the_end_is_heard_and_ended_with_it() -> None:
    world = World(relays=1)
    circuit = world.built("r1")
    relay = world.relays["r1"]
    circuit._send(1, [OWN + BEGIN, OWN + EXTEND])
    world.run()
    ((stream, _, handler),) = relay.exit.opened
    assert not stream.open
    assert handler.reason is not None
