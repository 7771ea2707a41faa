"""Any bytes in any file that a program reads at its start end in values, in none, or in an error made for people; and
what was read can be used, written and read again.

Client: guards, transports, epoch, changes of the directory set, bridges, genesis. Directory: memory of votes, changes.
Relay: capacity, replay memory. `pt`: an obfs4 identity. Run: `make fuzz TARGETS=state`.
"""

from __future__ import annotations

import atexit
import json
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from phantomband.core.bridge_line import BridgeLine
from phantomband.core.errors import UserError
from phantomband.core.handshake.replay import ReplayCache
from phantomband.core.ids import NodeId
from phantomband.core.netdir.genesis_file import genesis_text, parse_directory, parse_genesis
from phantomband.runtime.replay_file import ReplayFile
from phantomband.runtime.settings import STORED_BRIDGES
from phantomband.runtime.state_files import COPY, StateFiles
from phantomband_cli.pt import obfs4_state
from phantomband_client.bridges import StoredBridges, transports_of
from phantomband_client.choice.memory import TRANSPORTS_FILE, TransportMemory
from phantomband_client.guards import GUARDS_FILE, MAX_SAMPLED, StoredGuards
from phantomband_client.network_view import STATE_FILE, _changes, _epoch
from phantomband_directory.store import FileStore
from phantomband_relay.capacity import Capacity

NOW = 1_790_000_000.0
FOLDER = Path(tempfile.mkdtemp(prefix="phantomband-fuzz-state-"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
NODE = NodeId(b"n" * 32)
BRIDGE = f"Bridge tls 192.0.2.1:443 {'ab' * 32} link-key={'09' * 32} network={'cd' * 32} sni=example.org"

GENESIS = """{"phantomband_genesis": 2, "network": "n", "network_id": "00", "test_network": true, "min_relays": 1,
 "epochs": {"start": 1, "startup_epochs": 1, "startup_seconds": 1, "epoch_seconds": 30},
 "terms": {"work": {"n": 120, "k": 5, "floor": 4, "ceiling": 12, "expected_joins": 8, "window": 3},
 "probation_epochs": 2, "notice_epochs": 2}, "directories": [{"nickname": "a", "identity": "", "link_key": "",
 "addresses": ["tcp://192.0.2.1:9001"]}]}"""

SEEDS = [
    bytes((number,)) + text.encode()
    for number, text in enumerate((
        json.dumps([{"id": NODE.hex(), "since": 1.0, "until": 2e9, "unlisted": None}]),
        json.dumps({"salt": "00" * 16, "networks": {"n": {"seen": 1.0, "transports": {"tls": {
            "worked": 1.0, "failed": 0.0, "failures": 2, "seconds": 0.5}}}}}),
        '{"highest_epoch": 7}',
        "\0\0\0\2ab",
        BRIDGE + "\n",
        GENESIS,
        json.dumps({"network": "00" * 32, "voted": [1], "voted_to": 0, "signed": [[1, "00" * 32]], "signed_to": 0}),
        json.dumps({"hours": [[int(NOW // 3600), 5000]]}),
        "\1" + "k" * 32 + "\0\0\0\1\0\0\0\1" + "e" * 16,
        json.dumps({"node-id": "00" * 20, "private-key": "01" * 32, "drbg-seed": "02" * 24, "iat-mode": 1}),
    ))
]  # fmt: skip
SEEDS += [bytes((number,)) + bad for number in range(10) for bad in (b"[" * 5000, b'{"a": 1e999}')]
SEEDS += [b'\6{"network": "00", "voted": [1e999], "voted_to": 1e999, "signed": []}', b'\7{"hours": [[1e999, 1]]}']


def clock() -> float:
    return NOW


class Quiet:
    """A log that nobody reads."""

    def warning(self, *_: object, **__: object) -> None: ...


def files() -> StateFiles:
    made = StateFiles(FOLDER)
    made._log = Quiet()
    return made


def guards(data: bytes) -> None:
    put(GUARDS_FILE, data)
    put(GUARDS_FILE + COPY, data)
    stored = StoredGuards(files(), clock, random.Random(0).randbytes)
    stored.noted(lambda node: False)
    now = stored.extended([NODE], lambda ids: False)
    if len(now) > max(MAX_SAMPLED, len(stored.load())):
        raise AssertionError("too many guards")
    if (FOLDER / GUARDS_FILE).read_bytes() != data:
        again = StoredGuards(files(), clock, random.Random(0).randbytes)
        if [g.node_id for g in again.load()] != [g.node_id for g in stored.load()]:
            raise AssertionError("guards change between two starts")


def transports(data: bytes) -> None:
    put(TRANSPORTS_FILE, data)
    memory = TransportMemory(files(), clock, lambda salt: "here", random.Random(0).randbytes)
    memory.in_order(["tls", "quic"])
    memory.failed("tls")
    memory.worked("quic", 1.0)
    again = TransportMemory(files(), clock, lambda salt: "here", random.Random(0).randbytes)
    if again.of("tls") != memory.of("tls") or again.of("quic") != memory.of("quic"):
        raise AssertionError("what was remembered was not")


def epoch(data: bytes) -> None:
    put(STATE_FILE, data)
    put(STATE_FILE + COPY, data)
    files().read(STATE_FILE, _epoch, copy=True)


def changes(data: bytes) -> None:
    put("changes", data)
    files().read("changes", _changes)
    store().load_changes()


def bridges(data: bytes) -> None:
    put(STORED_BRIDGES, data)
    stored = StoredBridges(FOLDER)
    lines = stored.lines()
    for line in lines[:4]:
        bridge = BridgeLine.parse(line, transports_of([line]))
        if BridgeLine.parse(bridge.text(), transports_of([bridge.text()])) != bridge:
            raise AssertionError("a bridge line has two meanings")
    stored.add([BRIDGE])
    stored.remove(1)


def genesis(data: bytes) -> None:
    try:
        found = parse_genesis(data, "file")
    except UserError:
        parse_directory(data, "file")
        return
    if parse_genesis(genesis_text(found).encode(), "file") != found:
        raise AssertionError("a genesis changes when it is written")


def memory(data: bytes) -> None:
    put("memory.json", data)
    found = store().load_memory()
    store().save_memory(found.with_vote(5).with_signature(5, bytes(32)))
    if store().load_memory().may_vote(5):
        raise AssertionError("a vote was forgotten")


def store() -> FileStore:
    """A directory's, without its data base."""
    made = FileStore.__new__(FileStore)
    made._directory, made._network_id = FOLDER, bytes(32)
    return made


def capacity(data: bytes) -> None:
    put("capacity", data)
    known = Capacity(FOLDER / "capacity", clock)
    known.end_span()
    known.save()


def replay(data: bytes) -> None:
    put("replay", data)
    cache = ReplayCache()
    ReplayFile(FOLDER / "replay", cache)
    cache.add_untrusted(b"new" * 10 + b"xx", random.Random(len(data)).randbytes(32))
    ReplayCache().restore_untrusted(cache.encode()) if len(cache._keys) <= 3 else None


def identity(data: bytes) -> None:
    put(obfs4_state.STATE_FILE, data)
    obfs4_state.load(FOLDER, {}, random.Random(0).randbytes)


READERS: tuple[Callable[[bytes], None], ...] = (
    guards, transports, epoch, changes, bridges, genesis, memory, capacity, replay, identity,
)  # fmt: skip


def put(name: str, data: bytes) -> None:
    (FOLDER / name).write_bytes(data)


def one_input(data: bytes) -> None:
    """The first byte says which file the rest is."""
    if not data:
        return
    try:
        READERS[data[0] % len(READERS)](data[1:])
    except UserError as e:
        if not str(e):
            raise AssertionError("an error that tells a person nothing") from None
