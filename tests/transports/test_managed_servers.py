"""Programs that listen for us: with and without the extended ORPort, those that die, and several at once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest
import structlog
from fake_pt import LOOPS, End, Run, eventually, fake, runner_of
from phantomband.core.errors import UserError
from phantomband.transports.base import Address, Connection
from phantomband.transports.managed import program
from phantomband.transports.managed.program import Command
from phantomband.transports.managed.transport import Programs


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Run:
    return runner_of(request.param)


SERVER = """
host, _, port = os.environ["TOR_PT_SERVER_BINDADDR"].split("-")[1].rpartition(":")
listener = socket.create_server((host, int(port)))
orhost, _, orport = os.environ["TOR_PT_ORPORT"].rpartition(":")
def forward(s):
    o = socket.create_connection((orhost, int(orport)))
    threading.Thread(target=pump, args=(o, s), daemon=True).start()
    pump(s, o)
def serve():
    while True:
        threading.Thread(target=forward, args=(listener.accept()[0],), daemon=True).start()
threading.Thread(target=serve, daemon=True).start()
say("VERSION 1")
options = os.environ.get("TOR_PT_SERVER_TRANSPORT_OPTIONS", "")
open(os.path.join(state, "options"), "w").write(options)
say("SMETHOD fake %s:%d ARGS:%s" % (host, listener.getsockname()[1], ARGS))
say("SMETHODS DONE")
wait()
"""
"""A server that knows the plain ORPort only."""


def test_a_server_that_knows_no_extended_port(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        transport = fake(tmp_path, "ARGS = 'some-key=a\\\\,b'\n" + SERVER)
        transport.configure(tmp_path, {"an_option": "https://x;y"})
        ends: list[End] = []
        arrived = asyncio.Event()

        def accept(connection: Connection) -> End:
            ends.append(End(connection))
            arrived.set()
            return ends[-1]

        listener = await transport.listen("127.0.0.1", 0, accept)
        assert transport.parameters() == {"some_key": "a,b"}
        options = tmp_path / "state" / "fake-server" / "options"
        assert options.read_text() == "fake:an-option=https\\://x\\;y"
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"hello")
        await arrived.wait()
        await ends[0].until(lambda: ends[0].data == b"hello")
        assert ends[0].connection.peer_ip == b""
        ends[0].connection.write(b"back")
        assert await reader.readexactly(4) == b"back"
        await transport.close()
        writer.transport.abort()

    run(main())


def test_a_server_that_was_killed_listens_again_at_its_port(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "FIRST_PAUSE", 0.05)

    async def main() -> None:
        transport = fake(tmp_path, "ARGS = ''\n" + SERVER)
        ends: list[End] = []

        def accept(connection: Connection) -> End:
            ends.append(End(connection))
            return ends[-1]

        listener = await transport.listen("127.0.0.1", 0, accept)
        first = transport.listeners[0].pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
                if transport.listeners[0].pid not in (None, first):
                    break
                writer.transport.abort()
            except OSError:
                pass
            await asyncio.sleep(0.01)
        writer.write(b"again")
        await eventually(lambda: any(end.data == b"again" for end in ends))
        writer.transport.abort()
        await transport.close()

    run(main())


@pytest.mark.parametrize(
    ("arguments", "said"), [("some_key=1", "addresses cannot carry"), ("a,b", "a line that cannot be used")]
)
def test_parameters_that_cannot_be_published(run: Run, tmp_path: Path, arguments: str, said: str) -> None:
    async def main() -> None:
        with structlog.testing.capture_logs() as logs:
            transport = fake(tmp_path, f"ARGS = {arguments!r}\n" + SERVER)
            with pytest.raises(UserError) as caught:
                await transport.listen("127.0.0.1", 0, End)
            await transport.close()
        assert said in str(caught.value) + str(logs)

    run(main())


def test_a_program_that_dials_a_stranger_for_the_extended_port_is_cut_off(run: Run, tmp_path: Path) -> None:
    """Whoever connects to our extended port must know the cookie."""
    body = "ARGS = ''\nopen(os.path.join(state, 'port'), 'w').write(os.environ['TOR_PT_EXTENDED_SERVER_PORT'])\n"

    async def main() -> None:
        transport = fake(tmp_path, body + SERVER)
        await transport.listen("127.0.0.1", 0, lambda c: pytest.fail("nobody came"))
        port = (tmp_path / "state" / "fake-server" / "port").read_text().rpartition(":")[2]
        reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
        assert await reader.readexactly(2) == b"\1\0"
        writer.write(b"\1" + bytes(32))
        await reader.readexactly(64)
        writer.write(bytes(32))
        assert await reader.read() == b"\0"
        writer.transport.abort()
        await transport.close()

    run(main())


def test_two_addresses_of_one_transport(run: Run, tmp_path: Path) -> None:
    """Each has a program of its own; both know where their connections come from."""
    command = Command.of(("obfs4",), sys.executable, ("-m", "phantomband_cli.main", "pt"))

    async def main() -> None:
        transport = Programs([command], tmp_path).of("obfs4")
        assert transport is not None
        ends: list[End] = []

        def accept(connection: Connection) -> End:
            ends.append(End(connection))
            return ends[-1]

        first = await transport.listen("127.0.0.1", 0, accept)
        second = await transport.listen("127.0.0.1", 0, accept)
        assert len({listener.pid for listener in transport.listeners}) == 2
        for count, listener in enumerate((first, second), 1):
            address = Address("obfs4", "127.0.0.1", listener.port, transport.parameters())
            connection = await transport.dial(address, End, 20)
            connection.write(b"hello")
            await eventually(lambda count=count: len(ends) == count and ends[-1].data == b"hello")  # type: ignore[misc]
            assert ends[-1].connection.peer_ip == b"\x7f\0\0\1"
        await transport.close()

    run(main())
