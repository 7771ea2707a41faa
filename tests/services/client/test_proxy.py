"""What an application is answered, by both proxy protocols."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from phantomband.core.errors import Refused
from phantomband.core.stream.messages import Answer, EndReason, Kind, Target
from phantomband.core.stream.special_names import is_special_use
from phantomband_client.circuits import ExitsBusy
from phantomband_client.http_connect import HttpNegotiation
from phantomband_client.proxy import Application, Choose, Proxy
from phantomband_client.socks import Negotiation
from virtual import run_virtual

Script = list[EndReason | list[Answer] | Refused]

CONNECT = b"\5\1\0" + b"\5\1\0\3\x0bexample.net\1\xbb"
RESOLVE = b"\5\1\0" + b"\5\xf0\0\3\x0bexample.net\0\0"
HTTP = b"CONNECT example.net:443 HTTP/1.1\r\n\r\n"
ADDRESS = Answer(Kind.IPV4, "192.0.2.1", 60)


class FakeTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.ended = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.ended = True

    abort = close

    def is_closing(self) -> bool:
        return self.ended

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None: ...

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...


class Pool:
    """Opens streams that end as the script says; one circuit an attempt."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.attempts: list[Any] = []
        self.resolves: list[bool] = []

    def exit_failed(self, managed: Any, reason: EndReason) -> None:
        managed.retired = True

    async def get(self, isolation: Any, where: Target) -> Any:
        what = self.script[min(len(self.attempts), len(self.script) - 1)]
        managed = SimpleNamespace(retired=False, guard=SimpleNamespace(touch=lambda _: None))
        self.attempts.append((isolation, where, managed))
        if isinstance(what, Refused):
            raise what

        def open_(target: Target, handler: Any, *, resolve: bool) -> Any:
            self.resolves.append(resolve)
            loop = asyncio.get_running_loop()
            if isinstance(what, EndReason):
                loop.call_soon(handler.ended, what)
            else:
                loop.call_soon(handler.connected, what)
            return SimpleNamespace(may_read=True, end=lambda _: None, take=lambda _: None, write=lambda _: True)

        managed.circuit = SimpleNamespace(endpoint=SimpleNamespace(open=open_))
        return managed


def serve(data: bytes, script: Script, *, http: bool = False) -> tuple[bytes, Pool, FakeTransport]:
    pool, transport = Pool(script), FakeTransport()

    async def main() -> None:
        spawned: list[Application] = []
        proxy = Proxy(
            "http" if http else "socks",
            HttpNegotiation if http else Negotiation,
            Choose("fast", lambda _: pool),
            spawned.append,
            10,
            60.0,  # type: ignore[arg-type]
            lambda where: is_special_use(where.host),
        )
        application = Application(proxy)
        application.connection_made(transport)
        application.data_received(data)
        for one in spawned:
            await one.serve()

    run_virtual(main())
    return transport.written, pool, transport


@pytest.mark.parametrize(
    ("user", "chosen"),
    [
        (b"", "balanced"),
        (b"alice", "balanced"),
        (b"alice+strong", "strong"),
        (b"+fast", "fast"),
        (b"a+b+fast", "fast"),
        (b"strong", "balanced"),
        (b"alice+weak", "balanced"),
        (b"alice+", "balanced"),
        (b"\xff+strong", "strong"),
    ],
)
def test_a_socks_user_may_name_a_profile(user: bytes, chosen: str) -> None:
    asked: list[str] = []

    def pool(name: str) -> Any:
        asked.append(name)

    Choose("balanced", pool).pool(user)
    assert asked == [chosen]


@pytest.mark.parametrize(
    ("reason", "code", "attempts"),
    [
        (EndReason.REFUSED, 5, 1),
        (EndReason.UNREACHABLE, 4, 1),
        (EndReason.TIMEOUT, 6, 1),
        (EndReason.RESET, 1, 1),
        (EndReason.POLICY, 2, 3),
        (EndReason.RESOLVE_FAILED, 4, 2),
        (EndReason.RESOURCE, 1, 6),
        (EndReason.CIRCUIT_GONE, 1, 6),
    ],
)
def test_each_failure_is_told_after_the_attempts_it_is_worth(reason: EndReason, code: int, attempts: int) -> None:
    written, pool, transport = serve(CONNECT, [reason])
    assert written[:2] == b"\5\0"
    assert written[2:4] == bytes((5, code))
    assert len(pool.attempts) == attempts
    assert transport.ended


def test_a_circuit_that_breaks_before_a_byte_is_replaced_unseen() -> None:
    written, pool, transport = serve(CONNECT, [EndReason.CIRCUIT_GONE, Refused("none"), EndReason.RESOURCE, [ADDRESS]])
    assert written == b"\5\0" + b"\5\0\0\1" + bytes(6)
    assert [m.retired for _, _, m in pool.attempts] == [False, False, True, False]
    assert not transport.ended


def test_exits_without_room_are_a_failure_at_once() -> None:
    written, pool, _ = serve(CONNECT, [ExitsBusy("full")])
    assert written[2:4] == b"\5\1"
    assert len(pool.attempts) == 1


def test_no_circuit_at_all_is_a_failure() -> None:
    written, pool, _ = serve(CONNECT, [Refused("none")])
    assert written[2:4] == b"\5\1"
    assert len(pool.attempts) == 6


def test_resolve_prefers_ipv4() -> None:
    written, pool, transport = serve(RESOLVE, [[Answer(Kind.IPV6, "::1", 1), ADDRESS]])
    assert written == b"\5\0" + b"\5\0\0\1\xc0\0\2\1\0\0"
    assert pool.resolves == [True]
    assert transport.ended


def test_an_exit_that_answers_resolve_with_nothing_breaks_nothing() -> None:
    written, _, transport = serve(RESOLVE, [[]])
    assert written[2:4] == b"\5\4"
    assert transport.ended


@pytest.mark.parametrize(("result", "status"), [
    ([ADDRESS], 200), (EndReason.POLICY, 403), (EndReason.TIMEOUT, 504), (EndReason.REFUSED, 502),
])  # fmt: skip
def test_http_says_it_its_own_way(result: EndReason | list[Answer], status: int) -> None:
    written, *_ = serve(HTTP, [result], http=True)
    assert written.startswith(f"HTTP/1.1 {status} ".encode())


def test_isolation_is_listener_credentials_and_target() -> None:
    login = b"\5\1\2" + b"\1\1u\2pw" + CONNECT[3:]
    _, pool, _ = serve(login, [[ADDRESS]])
    assert pool.attempts[0][0] == ("socks", b"u", b"pw", "example.net", 443)


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (b"\1\xc0\0\2\7\0\0", b"\1\xc0\0\2\7\0\0"),
        (b"\3\x09192.0.2.7\0\0", b"\1\xc0\0\2\7\0\0"),
        (b"\4" + bytes(15) + b"\1\1\xbb", b"\4" + bytes(15) + b"\1\0\0"),
        (b"\3\x03::1\0\0", b"\4" + bytes(15) + b"\1\0\0"),
    ],
)
def test_resolve_of_an_address_is_answered_here(asked: bytes, answer: bytes) -> None:
    """There is nothing to look up, so no exit is asked: it would take it for the address's name."""
    written, pool, transport = serve(b"\5\1\0" + b"\5\xf0\0" + asked, [Refused("none")])
    assert written == b"\5\0" + b"\5\0\0" + answer
    assert not pool.attempts
    assert transport.ended


def test_resolve_ptr_of_an_address_is_asked_of_the_exit() -> None:
    named = Answer(Kind.NAME, "host.test", 60)
    written, pool, _ = serve(b"\5\1\0" + b"\5\xf1\0\1\xc0\0\2\7\0\0", [[named]])
    assert written == b"\5\0" + b"\5\0\0\3\x09host.test\0\0"
    assert pool.resolves == [True]


@pytest.mark.parametrize("name", [b"a.onion", b"printer.local", b"db.internal", b"LOCALHOST.", b"x.alt", b"y.i2p"])
@pytest.mark.parametrize("command", [1, 0xF0])
def test_names_of_special_use_leave_for_no_exit(name: bytes, command: int) -> None:
    asked = b"\5\1\0" + bytes((5, command, 0, 3, len(name))) + name + b"\1\xbb"
    written, pool, transport = serve(asked, [[ADDRESS]])
    assert written[2:4] == b"\5\4"
    assert not pool.attempts
    assert transport.ended


def test_the_http_port_says_why() -> None:
    written, pool, _ = serve(b"CONNECT a.onion:80 HTTP/1.1\r\n\r\n", [[ADDRESS]], http=True)
    assert written.startswith(b"HTTP/1.1 502 names like this one mean nothing to an exit")
    assert not pool.attempts
