"""Client and relay circuit machines together, over an in-memory network."""

from __future__ import annotations

import pytest
from phantomband.core.cell import CELL_BYTES, LINK_CIRCUIT, Command, encode
from phantomband.core.circuit.client import CircuitState
from phantomband.core.circuit.relay import RelayMachine
from phantomband.core.circuit.relay_types import RelayLimits
from phantomband.core.errors import Refused
from phantomband.core.onion import MAX_HOPS, message_room
from phantomband.core.stream.messages import EndReason, Kind, target
from world import CLIENT, Recorder, World


@pytest.mark.parametrize("hops", [1, 2, 3, 5, MAX_HOPS])
def test_circuit_of_any_length_carries_an_echo(hops: int) -> None:
    world = World(relays=hops)
    circuit = world.built(*world.relays)
    handler = Recorder()
    stream = circuit.endpoint.open(target("example.net", 80), handler)
    payload = bytes(range(256)) * 100
    stream.write(payload)
    world.run()
    assert handler.answers is not None
    assert handler.answers[0].value == "192.0.2.1"
    assert bytes(handler.received) == payload
    _, asked, _ = world.relays[f"r{hops}"].exit.opened[0]
    assert (asked.kind, asked.host, asked.port) == (Kind.NAME, "example.net", 80)


def test_data_cell_carries_1987_bytes_at_the_third_hop() -> None:
    assert message_room(3) - 5 == 1987


def test_megabytes_flow_within_windows_both_ways() -> None:
    world = World()
    circuit = world.built("r1", "r2", "r3")
    handler = Recorder()
    stream = circuit.endpoint.open(target("192.0.2.7", 443), handler)
    payload = world.random(8_000_000)
    stream.write(payload)
    stream.finish()
    world.run()
    assert bytes(handler.received) == payload
    assert handler.fin
    assert handler.reason is EndReason.DONE
    assert not circuit.endpoint.streams
    assert not world.relays["r3"].machine.counters.malformed


def test_many_streams_share_a_circuit_without_mixing() -> None:
    world = World()
    circuit = world.built("r1", "r2", "r3")
    handlers = []
    for i in range(200):
        handler = Recorder()
        stream = circuit.endpoint.open(target("example.net", i + 1), handler)
        stream.write(bytes((i,)) * (i * 37 + 1))
        stream.finish()
        handlers.append(handler)
    world.run()
    for i, handler in enumerate(handlers):
        assert bytes(handler.received) == bytes((i,)) * (i * 37 + 1)
        assert handler.reason is EndReason.DONE


def test_a_slow_reader_stalls_only_its_own_stream_and_bounds_memory() -> None:
    world = World()
    circuit = world.built("r1", "r2", "r3")
    slow, quick = Recorder(), Recorder()
    slow_stream = circuit.endpoint.open(target("slow", 1), slow)
    slow_stream.take(False)
    slow_stream.write(bytes(6_000_000))
    world.run()
    held = len(slow.received)
    assert held <= 1025 * 1987
    quick_stream = circuit.endpoint.open(target("quick", 1), quick)
    quick_stream.write(bytes(3_000_000))
    world.run()
    assert len(quick.received) == 3_000_000
    assert len(slow.received) == held
    slow_stream.take(True)
    world.run()
    assert len(slow.received) == 6_000_000


def test_no_relay_but_the_exit_sees_the_target_or_the_data() -> None:
    world = World()
    circuit = world.built("r1", "r2", "r3")
    seen: dict[tuple[str, str], bytearray] = {}
    for pair in ((CLIENT, "r1"), ("r1", "r2"), ("r2", "r3"), ("r3", "r2"), ("r2", "r1"), ("r1", CLIENT)):

        def look(cell: bytes, pair: tuple[str, str] = pair) -> bytes:
            seen.setdefault(pair, bytearray()).extend(cell)
            return cell

        world.tamper[pair] = look
    circuit.endpoint.open(target("secret.example", 80), Recorder()).write(b"the plaintext" * 10)
    world.run()
    assert len(seen) == 6
    for data in seen.values():
        assert b"secret.example" not in data
        assert b"the plaintext" not in data


def _flip(cell: bytes) -> bytes:
    return cell[:100] + bytes((cell[100] ^ 1,)) + cell[101:] if cell[4] == Command.RELAY else cell


@pytest.mark.parametrize(
    "pair", [(CLIENT, "r1"), ("r1", "r2"), ("r2", "r3"), ("r3", "r2"), ("r2", "r1"), ("r1", CLIENT)]
)
def test_a_changed_cell_kills_the_circuit_everywhere(pair: tuple[str, str]) -> None:
    world = World()
    circuit = world.built("r1", "r2", "r3")
    handler = Recorder()
    world.tamper[pair] = _flip
    circuit.endpoint.open(target("example.net", 80), handler)
    world.run()
    assert circuit.state is CircuitState.GONE
    assert handler.reason is EndReason.CIRCUIT_GONE
    assert [r.machine.circuit_count for r in world.relays.values()] == [0, 0, 0]


@pytest.mark.parametrize("pair", [("r1", "r2"), ("r3", "r2")])
def test_a_dropped_or_replayed_cell_kills_the_circuit(pair: tuple[str, str]) -> None:
    for times in (0, 2):
        world = World()
        circuit = world.built("r1", "r2", "r3")
        stream = circuit.endpoint.open(target("example.net", 80), Recorder())
        world.run()
        hit: list[bytes] = []

        def once(cell: bytes, hit: list[bytes] = hit, times: int = times, world: World = world) -> bytes | None:
            if cell[4] != Command.RELAY or hit:
                return cell
            hit.append(cell)
            if times == 2:
                world.inject(*pair, cell)
            return cell if times else None

        world.tamper[pair] = once
        for _ in range(3):
            stream.write(b"x")
            world.run()
        assert hit
        assert circuit.state is CircuitState.GONE


def test_destroy_of_a_link_kills_its_circuits_and_tells_both_ends() -> None:
    world = World()
    circuit = world.built("r1", "r2", "r3")
    world.inject("r2", "r1", encode(LINK_CIRCUIT, Command.DESTROY))
    world.run()
    assert circuit.state is CircuitState.GONE
    assert world.relays["r1"].machine.circuit_count == 0


def test_extending_to_an_unknown_relay_fails_cleanly() -> None:
    world = World(relays=2)
    stranger = World(relays=3).relays["r3"]
    world.relays["r3"] = stranger
    keys = stranger.keys
    del world.relays["r3"]
    circuit = world.circuit("r1", "r2")
    circuit.path = (*circuit.path, keys)
    world.run()
    assert circuit.state is CircuitState.GONE
    assert not world.watcher.opened


@pytest.mark.parametrize("command", [0, 2, 3, 4, 5, 77, 255])
def test_unexpected_cells_from_a_peer_change_nothing_for_others(command: int) -> None:
    world = World()
    circuit = world.built("r1", "r2", "r3")
    world.inject(CLIENT, "r1", b"\0\0\x12\x34" + bytes((command,)) + bytes(CELL_BYTES - 5))
    world.run()
    assert circuit.state is CircuitState.OPEN


def test_create_with_a_used_id_destroys_that_circuit_only() -> None:
    world = World()
    first = world.built("r1", "r2", "r3")
    second = world.built("r1", "r3")
    world.inject(CLIENT, "r1", first.id + bytes((Command.CREATE,)) + bytes(CELL_BYTES - 5))
    world.run()
    assert first.state is CircuitState.GONE
    assert second.state is CircuitState.OPEN


def test_limits_refuse_with_destroy() -> None:
    world = World(limits=RelayLimits(circuits=2))
    world.built("r1")
    world.built("r1")
    third = world.circuit("r1")
    world.run()
    assert third.state is CircuitState.GONE
    assert world.relays["r1"].machine.counters.circuits_refused == 1


def test_too_many_streams_are_refused_and_the_others_live() -> None:
    world = World(limits=RelayLimits(streams_per_circuit=5))
    circuit = world.built("r1", "r2", "r3")
    handlers = [Recorder() for _ in range(8)]
    for i, handler in enumerate(handlers):
        circuit.endpoint.open(target("example.net", i + 1), handler)
    world.run()
    assert [h.reason for h in handlers] == [None] * 5 + [EndReason.RESOURCE] * 3
    assert circuit.state is CircuitState.OPEN


DESTROY_LINK = encode(LINK_CIRCUIT, Command.DESTROY)


def test_lane_loss_drops_all_circuits_tells_all_links_and_new_ones_work() -> None:
    world = World()
    old = world.built("r1", "r2", "r3")
    told: list[tuple[str, bytes]] = []
    for peer in ("r1", "r3"):

        def look(cell: bytes, peer: str = peer) -> bytes:
            told.append((peer, cell))
            return cell

        world.tamper["r2", peer] = look
    world.relays["r2"].machine.reset(keep_links=True)
    world.run()
    assert sorted(told) == [("r1", DESTROY_LINK), ("r3", DESTROY_LINK)]
    assert old.state is CircuitState.GONE
    assert [r.machine.circuit_count for r in world.relays.values()] == [0, 0, 0]
    world.tamper.clear()
    world.built("r1", "r2", "r3")


def waiting_at_r2(world: World) -> RelayMachine:
    """The machine of the second relay, with cells that wait to go on."""
    circuit = world.built("r1", "r2", "r3")
    circuit.endpoint.open(target("example.net", 80), Recorder()).write(bytes(10_000))
    machine = world.relays["r2"].machine
    while machine.outbox.empty:
        world.step()
    return machine


def test_a_reset_drops_the_cells_that_wait_and_then_tells_each_link_once() -> None:
    machine = waiting_at_r2(World())
    machine.reset(keep_links=True)
    assert [(cells, b"".join(parts)) for _, cells, parts in machine.outbox.drain()] == [(1, DESTROY_LINK)] * 2


def test_a_reset_without_the_gateway_forgets_links_and_tells_nobody() -> None:
    """The gateway, or its successor, tells all its links itself."""
    world = World()
    machine = waiting_at_r2(world)
    machine.reset(keep_links=False)
    assert machine.outbox.empty
    assert machine.circuit_count == 0
    assert not any(machine.has_link(link) for link in range(1, 9))


@pytest.mark.parametrize("sender", [CLIENT, "r2"])
def test_a_pad_on_a_circuit_destroys_it_and_one_on_the_link_does_not(sender: str) -> None:
    world = World()
    first, second = world.built("r1", "r2", "r3"), world.built("r1", "r3")
    world.inject(sender, "r1", encode(LINK_CIRCUIT, Command.PAD))
    world.run()
    assert (first.state, second.state) == (CircuitState.OPEN, CircuitState.OPEN)
    on_next_link = b"\0\0\0\1"  # the first id that r1 used on its link to r2
    world.inject(sender, "r1", encode(first.id if sender == CLIENT else on_next_link, Command.PAD))
    world.run()
    assert (first.state, second.state) == (CircuitState.GONE, CircuitState.OPEN)
    assert [r.machine.circuit_count for r in world.relays.values()] == [1, 0, 1]


def test_a_pad_on_a_circuit_destroys_it_at_the_client() -> None:
    world = World()
    circuit = world.built("r1", "r2", "r3")
    world.inject("r1", CLIENT, encode(circuit.id, Command.PAD))
    world.run()
    assert circuit.state is CircuitState.GONE
    assert [r.machine.circuit_count for r in world.relays.values()] == [0, 0, 0]


def test_resolve_answers_and_closes() -> None:
    world = World()
    circuit = world.built("r1", "r2", "r3")
    handler = Recorder()
    circuit.endpoint.open(target("example.net", 0), handler, resolve=True)
    world.run()
    assert handler.answers is not None
    assert handler.answers[0].value == "192.0.2.9"
    assert handler.reason is EndReason.DONE
    assert circuit.state is CircuitState.OPEN


def test_a_destroyed_circuit_refuses_new_streams() -> None:
    world = World()
    circuit = world.built("r1", "r2", "r3")
    circuit.destroy()
    world.run()
    assert world.relays["r3"].machine.circuit_count == 0
    with pytest.raises(Refused):
        circuit.endpoint.open(target("example.net", 1), Recorder())


def test_cover_to_a_middle_hop_is_swallowed() -> None:
    world = World()
    circuit = world.built("r1", "r2", "r3")
    for hop in (1, 2, 3):
        circuit.send_drop(hop)
    before = dict(world.carried)
    world.run()
    assert circuit.state is CircuitState.OPEN
    assert world.carried["r1", "r2"] - before["r1", "r2"] == 2
    assert world.carried["r2", "r3"] - before["r2", "r3"] == 1
    assert world.carried["r1", CLIENT] == before["r1", CLIENT]


def test_a_fault_in_one_circuit_stalls_no_other() -> None:
    """A handler that raises ends its own circuit; the others of the same batch are served."""

    class Broken(Recorder):
        def data(self, pieces: list[bytes]) -> None:
            raise RuntimeError("a fault of ours")

    world = World()
    broken, healthy = world.built("r1", "r2", "r3"), world.built("r1", "r2", "r3")
    exit_ = world.relays["r3"].exit
    streams = [c.endpoint.open(target("example.net", 80), Recorder()) for c in (broken, healthy)]
    world.run()
    exit_.opened[0][0].handler = Broken()
    for stream in streams:
        stream.write(b"hello")
    world.run()
    assert world.relays["r3"].machine.counters.bugs == 1
    assert broken.state is CircuitState.GONE
    assert healthy.state is CircuitState.OPEN
    assert bytes(exit_.opened[1][2].received) == b"hello"


@pytest.mark.parametrize("pair", [("r1", "r2"), ("r2", "r3"), ("r3", "r2"), ("r1", CLIENT)])
def test_a_lost_last_cell_is_noticed_by_the_keepalive(pair: tuple[str, str]) -> None:
    """Nothing follows the lost cell but the DROP of either end; the circuit dies instead of hanging."""
    world = World()
    circuit = world.built("r1", "r2", "r3")
    handler = Recorder()
    stream = circuit.endpoint.open(target("example.net", 80), handler)
    world.run()
    world.tamper[pair] = lambda cell: None if cell[4] == Command.RELAY else cell
    stream.write(b"a request")
    world.run()
    assert circuit.state is CircuitState.OPEN, "nobody can know yet"
    del world.tamper[pair]
    circuit.send_drop(3)
    for relay in world.relays.values():
        relay.machine.keepalive()
    world.run()
    assert circuit.state is CircuitState.GONE
    assert handler.reason is EndReason.CIRCUIT_GONE
