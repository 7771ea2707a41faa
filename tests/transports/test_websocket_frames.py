"""The frames of a WebSocket whose upgrade is done, byte by byte (RFC 6455)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from phantomband.transports.base import Buffer
from phantomband.transports.websocket import connection as module
from phantomband.transports.websocket.connection import WebSocketConnection
from websockets.frames import Frame, Opcode
from websockets.protocol import Side


class Lower:
    """A connection below that keeps what is written."""

    peer_ip = b""
    congested = False
    buffered = 0

    def __init__(self) -> None:
        self.written = bytearray()
        self.calls: list[str] = []

    def write(self, data: Buffer) -> None:
        self.written += data

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name not in ("flush", "want_writable", "pause_reading", "resume_reading", "close", "abort"):
            raise AttributeError(name)
        return lambda: self.calls.append(name)


class Upper:
    def __init__(self) -> None:
        self.data = bytearray()
        self.ends: list[Exception | None] = []

    def received(self, data: Buffer) -> None:
        self.data += data

    def writable(self) -> None: ...

    def closed(self, error: Exception | None) -> None:
        self.ends.append(error)


class Rig:
    def __init__(self, side: Side = Side.SERVER) -> None:
        self.lower, self.upper = Lower(), Upper()
        self.masked = side is Side.SERVER
        self.connection = WebSocketConnection(self.lower, side, lambda _: self.upper, lambda _: None)
        self.connection.start(b"")

    def frame(self, opcode: Opcode, data: bytes, fin: bool = True) -> bytes:
        return Frame(opcode, data, fin).serialize(mask=self.masked)


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(main())


@pytest.mark.parametrize("step", [1, 2, 7, 100, 100_000])
@pytest.mark.parametrize("side", list(Side))
def test_any_cut_gives_the_same_bytes(step: int, side: Side) -> None:
    async def main() -> None:
        rig = Rig(side)
        sent = b"".join((
            rig.frame(Opcode.BINARY, b"abc"), rig.frame(Opcode.BINARY, b"d" * 300, fin=False),
            rig.frame(Opcode.PING, b"?"), rig.frame(Opcode.CONT, b"e" * 7, fin=False), rig.frame(Opcode.CONT, b"f"),
            rig.frame(Opcode.BINARY, b""),
        ))  # fmt: skip
        for at in range(0, len(sent), step):
            rig.connection.received(sent[at : at + step])
        assert rig.upper.data == b"abc" + b"d" * 300 + b"e" * 7 + b"f"
        assert (rig.lower.written[0], rig.lower.written[1] & 0x7F) == (0x8A, 1)  # the pong

    run(main)


def test_messages_have_32_kib_at_most_and_clients_mask() -> None:
    async def main() -> None:
        server, client = Rig(), Rig(Side.CLIENT)
        for rig in (server, client):
            rig.connection.write(b"x" * 20_000)
            rig.connection.write(b"y" * 20_000)
            await asyncio.sleep(0)
        assert server.lower.written[:4] == bytes((0x82, 126)) + (32 * 1024).to_bytes(2, "big")
        assert client.lower.written[1] & 0x80
        client.connection.received(bytes(server.lower.written))
        server.connection.received(bytes(client.lower.written))
        assert client.upper.data == server.upper.data == b"x" * 20_000 + b"y" * 20_000

    run(main)


BAD = {
    "text": (Frame(Opcode.TEXT, b"hello").serialize(mask=True), 1003),
    "unmasked": (Frame(Opcode.BINARY, b"hello").serialize(mask=False), 1002),
    "unknown opcode": (b"\x83\x80\0\0\0\0", 1002),
    "a bit of an extension": (b"\xc2\x80\0\0\0\0", 1002),
    "too long": (b"\x82\xff" + (1 << 40).to_bytes(8, "big") + bytes(4), 1009),
    "a continuation of nothing": (Frame(Opcode.CONT, b"x").serialize(mask=True), 1002),
}


@pytest.mark.parametrize("name", list(BAD))
def test_wrong_frames_end_it_with_the_standards_code(name: str) -> None:
    async def main() -> None:
        rig = Rig()
        data, code = BAD[name]
        rig.connection.received(data)
        assert rig.lower.written[0] == 0x88
        assert int.from_bytes(rig.lower.written[2:4], "big") == code
        assert "close" in rig.lower.calls
        rig.connection.received(rig.frame(Opcode.BINARY, b"later"))
        rig.connection.closed(None)
        assert isinstance(rig.upper.ends[0], ConnectionError)
        assert not rig.upper.data

    run(main)


def test_a_message_of_too_many_fragments_ends_it() -> None:
    async def main() -> None:
        rig = Rig()
        rig.connection.received(rig.frame(Opcode.BINARY, b"", fin=False))
        part = rig.frame(Opcode.CONT, bytes(module.MAX_FRAME), fin=False)
        for _ in range(module.MAX_MESSAGE // module.MAX_FRAME + 1):
            rig.connection.received(part)
        assert rig.lower.written[0] == 0x88
        assert len(rig.upper.data) == module.MAX_MESSAGE

    run(main)


def test_who_pings_and_does_not_read_gets_no_pongs() -> None:
    async def main() -> None:
        rig = Rig()
        rig.lower.congested = True
        rig.connection.received(rig.frame(Opcode.PING, b"?") * 1000)
        assert not rig.lower.written

    run(main)


def test_closing_waits_for_the_others_close_frame() -> None:
    async def main() -> None:
        server, client = Rig(), Rig(Side.CLIENT)
        client.connection.write(b"last words")
        client.connection.close()
        assert "close" not in client.lower.calls
        server.connection.received(bytes(client.lower.written))
        assert server.upper.data == b"last words"
        assert server.lower.calls[-1] == "close"
        client.connection.received(bytes(server.lower.written))
        for rig in (server, client):
            rig.connection.closed(None)
            assert rig.upper.ends == [None]

    run(main)


def test_a_reset_after_the_close_frames_is_an_orderly_end() -> None:
    async def main() -> None:
        rig = Rig(Side.CLIENT)
        rig.connection.close()
        rig.connection.received(rig.frame(Opcode.CLOSE, b""))
        rig.connection.closed(ConnectionResetError())
        assert rig.upper.ends == [None]

    run(main)


def test_an_end_without_a_close_frame_is_an_error() -> None:
    async def main() -> None:
        rig = Rig()
        rig.connection.closed(None)
        assert isinstance(rig.upper.ends[0], ConnectionError)

    run(main)


def test_what_came_while_reading_was_paused_comes_before_the_end() -> None:
    async def main() -> None:
        rig = Rig()
        rig.connection.pause_reading()
        rig.connection.received(rig.frame(Opcode.BINARY, b"kept") + rig.frame(Opcode.CLOSE, b""))
        rig.connection.closed(None)
        assert not rig.upper.data
        assert not rig.upper.ends
        rig.connection.resume_reading()
        await asyncio.sleep(0)
        assert rig.upper.data == b"kept"
        assert rig.upper.ends == [None]

    run(main)


def test_a_peer_that_never_answers_a_close_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.0)

    async def main() -> None:
        rig = Rig()
        rig.connection.close()
        await asyncio.sleep(0.01)
        assert rig.lower.calls[-1] == "abort"

    run(main)
