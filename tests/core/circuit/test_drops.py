"""An exit cannot write to whoever watches the guard's link: messages that nothing calls for end the circuit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from phantomband.core.circuit.client import CircuitState, ClientCircuit
from phantomband.core.circuit.drops import AFTER, HELD_UP
from phantomband.core.circuit.relay import KEEPALIVE_SECONDS
from phantomband.core.onion import OWN
from phantomband.core.stream.messages import Message, encode, encode_pace, target
from world import Recorder, World

WEB = target("example.net", 443)
RATE = 16


class Net(World):
    """Three relays, and the exit's end of the client's circuit."""

    def __init__(self) -> None:
        super().__init__()
        self.circuit_: ClientCircuit = self.built("r1", "r2", "r3")

    @property
    def exit(self) -> Any:
        links = self.relays["r3"].machine._links.values()
        return next(owner for link in links for owner in link.owners.values() if owner)

    def send(self, *messages: bytes) -> bool:
        """The exit sends; whether the circuit lives."""
        for message in messages:
            self.exit.send([OWN + message])
        self.run()
        return self.circuit_.state is CircuitState.OPEN

    def drops(self, count: int) -> bool:
        return self.send(*[encode(Message.DROP, 0)] * count)

    def wait(self, seconds: float) -> None:
        self.now += seconds


def test_one_drop_on_a_circuit_that_never_had_a_stream_ends_it() -> None:
    net = Net()
    assert not net.drops(1)


@pytest.mark.parametrize(
    "message",
    [
        encode(Message.LOOPED, 0, bytes(8)),
        encode(Message.LOOP, 0, bytes(8)),
        encode(Message.PACED, 0, encode_pace(16)),
        encode(Message.PACE, 0, encode_pace(16)),
        encode(Message.EXTENDED, 0),
        encode(Message.CREDIT, 0, bytes(16)),
        encode(Message.CREDIT, 1, bytes(16)),
        encode(Message.CONNECTED, 1, b"\0"),
        encode(Message.RESOLVED, 1, b"\0"),
        encode(Message.END, 1, b"\0"),
        encode(Message.FIN, 1),
        encode(Message.DATA, 1, b"x"),
    ],
)
@pytest.mark.parametrize("streams", [0, 2])
def test_no_other_message_is_taken_unasked(message: bytes, streams: int) -> None:
    net = Net()
    for _ in range(streams):
        net.circuit_.endpoint.open(WEB, Recorder())
        net.run()
    if streams and message[0] in (Message.END, Message.FIN, Message.DATA):
        message = message[:1] + b"\0\x63" + message[3:]  # these may come for a stream that is open
    assert not net.send(message)


def test_the_drops_of_an_honest_exit_are_taken_for_hours() -> None:
    net = Net()
    net.circuit_.endpoint.open(WEB, Recorder())
    net.run()
    for _ in range(1000):
        net.wait(KEEPALIVE_SECONDS)
        net.relays["r3"].machine.keepalive()
        net.run()
    assert net.circuit_.state is CircuitState.OPEN


def test_drops_that_were_held_up_may_come_together_more_may_not() -> None:
    for count, lives in ((HELD_UP, True), (HELD_UP + 1, False)):
        net = Net()
        net.circuit_.endpoint.open(WEB, Recorder())
        net.run()
        net.wait(3600)
        assert net.drops(count) is lives


def test_drops_that_were_on_the_way_when_the_last_stream_ended_are_taken() -> None:
    net = Net()
    stream = net.circuit_.endpoint.open(WEB, Recorder())
    net.run()
    net.circuit_.endpoint.streams.pop(stream.id)
    net.wait(3600)
    assert net.drops(AFTER)
    net.wait(3600)
    assert not net.drops(1)


def paced(net: Net) -> Callable[[], None]:
    net.circuit_.ask_pace(RATE)
    net.run()
    assert net.circuit_.pace == RATE
    machine = net.relays["r3"].machine
    return lambda: machine.slots(net.now)


def test_a_paced_exit_sends_what_its_pace_makes_late_or_not() -> None:
    net = Net()
    slots = paced(net)
    for pause in (1.0, 1.0, 60.0, 1.0, 0.5, 300.0) * 3:
        net.wait(pause)
        slots()
        net.run()
    assert net.circuit_.state is CircuitState.OPEN


def test_a_paced_exit_that_sends_more_ends_the_circuit() -> None:
    net = Net()
    paced(net)
    assert net.drops(RATE)
    assert not net.drops(20 * RATE)


def test_what_was_asked_for_and_not_answered_is_no_pace() -> None:
    net = Net()
    net.circuit_.ask_pace(RATE)
    assert not net.drops(1)
