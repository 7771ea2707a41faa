"""Where a client begins: at its bridges and nowhere else, or at a directory; and which genesis it believes."""

from __future__ import annotations

import asyncio
import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from phantomband.core.bridge_line import BridgeLine
from phantomband.core.errors import Refused
from phantomband.core.ids import NodeId
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.genesis_file import genesis_text
from phantomband.core.netdir.replies import Code, GenesisReply, NotNewer, RefusedReply, Reply, encode_reply
from phantomband.core.netdir.requests import GetGenesis, decode_request_untrusted
from phantomband.runtime.link_driver import HANDSHAKE_SECONDS
from phantomband.runtime.state_files import StateFiles
from phantomband.transports.base import Accept, Address, Buffer, Connection, Listener, Receiver, Transport
from phantomband.transports.managed.program import ProgramFailed
from phantomband_client.choice.chooser import Chooser
from phantomband_client.choice.memory import TransportMemory
from phantomband_client.first_links import GENESIS_FILE, FirstLinks, genesis_by_bridge
from phantomband_client.guard_link import GuardLink
from virtual import run_virtual
from world import Seeded

MAKE: Any = runpy.run_path(str(Path(__file__).parents[2] / "core" / "netdir" / "conftest.py"))["World"]()
GENESIS = MAKE.genesis(4)
TEXT = genesis_text(GENESIS).encode()
OTHER = genesis_text(MAKE.genesis(3)).encode()


def bridge(last: int) -> BridgeLine:
    address = NodeAddress("tcp", f"192.0.2.{last}", 443, (("sni", "example.org"),))
    return BridgeLine(address, NodeId(bytes((last,)) * 32), b"k" * 32, GENESIS.network_id)


class Deaf(Transport):
    """Nobody answers; who was dialled is written down."""

    name = "tcp"

    def __init__(self) -> None:
        self.dialled: list[Address] = []

    async def dial(self, address: Address, accept: Accept, timeout: float) -> Connection:
        self.dialled.append(address)
        raise Refused("nobody is there")

    async def listen(self, host: str, port: int, accept: Accept) -> Listener:
        raise AssertionError

    def parameters(self) -> dict[str, str]:
        return {}


def chooser(transport: Transport) -> Chooser:
    memory = TransportMemory(StateFiles(Path("/nowhere")), lambda: 1e9, lambda salt: "here", Seeded(9))
    return Chooser(GENESIS.network_id, {"tcp": transport}, memory, lambda: 1e9)


def refused_dials(bridges: tuple[BridgeLine, ...], message: str) -> list[str]:
    transport = Deaf()

    async def main() -> None:
        links = FirstLinks(bridges, GENESIS, chooser(transport), Seeded(3))
        with pytest.raises(Refused, match=message):
            await links.dial()

    run_virtual(main())
    return [address.host for address in transport.dialled]


def test_without_bridges_every_directory_is_tried_from_a_random_one_on() -> None:
    dialled = refused_dials((), "no directory of the genesis file can be reached by tcp")
    every = [d.addresses[0].host for d in GENESIS.directories]
    assert sorted(dialled) == sorted(every)


def test_with_bridges_they_are_tried_in_order_and_no_directory_ever() -> None:
    dialled = refused_dials((bridge(1), bridge(2)), "no bridge can be reached by tcp")
    assert dialled == ["192.0.2.1", "192.0.2.2"]


class Answers:
    """Bridges that answer as told, in place of links."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answers: list[Callable[[], Reply]]) -> None:
        self.answers, self.asked, self.closed = answers, 0, 0
        self.dialled: list[str] = []
        outer = self

        async def dial(link: GuardLink, network_id: bytes, key: bytes, address: Address, transport: Any) -> None:
            assert network_id == GENESIS.network_id
            outer.dialled.append(address.host)

        async def call(link: GuardLink, request: bytes) -> bytes:
            assert decode_request_untrusted(request) == GetGenesis()
            outer.asked += 1
            return encode_reply(outer.answers.pop(0)())

        def close(link: GuardLink) -> None:
            outer.closed += 1

        for name, function in (("dial", dial), ("directory_call", call), ("close", close)):
            monkeypatch.setattr(GuardLink, name, function)


def nobody() -> Reply:
    raise Refused("the node's directory does not answer")


def fetched(folder: Path) -> tuple[Any, list[str]]:
    troubles: list[str] = []

    async def main() -> Any:
        return await genesis_by_bridge([bridge(1)], StateFiles(folder), chooser(Deaf()), Seeded(1), troubles.append)

    found: list[Any] = []

    async def keep() -> None:
        found.append(await main())

    run_virtual(keep())
    return found[0], troubles


def test_the_genesis_comes_from_the_bridge_and_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers(monkeypatch, [lambda: GenesisReply(TEXT)])
    assert fetched(tmp_path) == (GENESIS, [])
    assert (tmp_path / GENESIS_FILE).read_bytes() == TEXT
    assert fetched(tmp_path) == (GENESIS, [])
    assert (answers.asked, answers.closed) == (1, 1), "the second time it was there"


def test_what_is_no_genesis_of_this_network_is_refused_and_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forged = json.loads(OTHER) | {"network_id": GENESIS.network_id.hex()}
    wrong: list[Callable[[], Reply]] = [
        nobody,
        lambda: GenesisReply(OTHER),
        lambda: GenesisReply(json.dumps(forged).encode()),
        lambda: GenesisReply(b"{"),
        lambda: NotNewer(0),
        lambda: RefusedReply(Code.MALFORMED, ""),
        lambda: GenesisReply(TEXT),
    ]
    answers = Answers(monkeypatch, wrong)
    found, troubles = fetched(tmp_path)
    assert found == GENESIS
    assert answers.asked == answers.closed == 7
    for trouble, said in zip(
        troubles,
        ("does not answer", "another network", "network_id", "not JSON", "gives no genesis", "gives no genesis"),
        strict=True,
    ):
        assert said in trouble
    assert set(answers.dialled) == {"192.0.2.1"}


def test_a_stored_file_of_another_network_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / GENESIS_FILE).write_bytes(OTHER)
    Answers(monkeypatch, [lambda: GenesisReply(TEXT)])
    assert fetched(tmp_path)[0] == GENESIS


def test_waiting_for_a_bridge_can_be_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Answers(monkeypatch, [nobody] * 1000)

    async def main() -> None:
        waiting = asyncio.create_task(
            genesis_by_bridge([bridge(1)], StateFiles(tmp_path), chooser(Deaf()), Seeded(1), lambda why: None)
        )
        await asyncio.sleep(100)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    run_virtual(main())
    assert not (tmp_path / GENESIS_FILE).exists()


def test_what_a_transport_program_says_reaches_the_person() -> None:
    class Failing(Deaf):
        async def dial(self, address: Address, accept: Accept, timeout: float) -> Connection:
            raise ProgramFailed("the program lyrebird cannot be used: it says: ENV-ERROR no such thing")

    async def main() -> None:
        links = FirstLinks((bridge(1),), None, chooser(Failing()), Seeded(3))
        with pytest.raises(Refused, match="lyrebird cannot be used"):
            await links.dial()

    run_virtual(main())


def test_a_slow_transport_is_given_time_and_says_why_it_failed() -> None:
    class Hanging(Connection):
        buffered = 0
        receiver: Receiver

        def write(self, data: Buffer) -> None: ...
        def pause_reading(self) -> None: ...
        def resume_reading(self) -> None: ...
        def close(self) -> None: ...
        def abort(self) -> None:
            self.receiver.closed(None)

    class Slow(Deaf):
        """As snowflake's client, it takes a connection before it has one."""

        slowness = 35.0

        async def dial(self, address: Address, accept: Accept, timeout: float) -> Connection:
            connection = Hanging()
            connection.receiver = accept(connection)
            return connection

        def explained(self, problem: Refused) -> Refused:
            return ProgramFailed(f"{problem}: the program says: broker failure")

    async def main() -> None:
        links = FirstLinks((bridge(1),), None, chooser(Slow()), Seeded(3))
        begun = asyncio.get_running_loop().time()
        with pytest.raises(Refused, match="the program says: broker failure"):
            await links.dial()
        assert asyncio.get_running_loop().time() - begun == pytest.approx(HANDSHAKE_SECONDS + Slow.slowness)

    run_virtual(main())
