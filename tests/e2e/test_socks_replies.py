"""Reply codes of the SOCKS port for each way to fail, RESOLVE, and what other protocols are told."""

from __future__ import annotations

import socket
import time

import pytest
from e2e_net import Network, need, run
from e2e_servers import WebServer, blackhole, echo, free_port, tcp
from e2e_socks import SocksFailed, connect, receive, receive_all, resolve

pytestmark = pytest.mark.e2e

NOT_ALLOWED, HOST_UNREACHABLE, REFUSED, TTL_EXPIRED, NO_COMMAND, NO_ADDRESS = 2, 4, 5, 6, 7, 8
"""RFC 1928, section 6; TTL expired is what SOCKS has for a target that does not answer in time."""


def _code(network: Network, host: str, port: int) -> int:
    with pytest.raises(SocksFailed) as failed:
        connect(network.socks, host, port).close()
    return failed.value.code


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_a_closed_port_is_refused(network: Network, host: str) -> None:
    assert _code(network, host, free_port()) == REFUSED


def test_a_name_that_does_not_resolve(network: Network) -> None:
    assert _code(network, "no-such-name.invalid", 80) == HOST_UNREACHABLE


@pytest.mark.parametrize(("host", "port"), [("127.66.1.2", 80), ("127.0.0.1", 25), ("localhost", 25)])
def test_what_no_exit_allows(network: Network, host: str, port: int) -> None:
    assert _code(network, host, port) == NOT_ALLOWED


def test_a_target_that_does_not_answer(network: Network) -> None:
    with blackhole() as target:
        began = time.monotonic()
        assert _code(network, target.host, target.port) == TTL_EXPIRED
        assert time.monotonic() - began > 1, "it gave up before it can have waited"


def test_resolve(network: Network) -> None:
    assert resolve(network.socks, "localhost") in ("127.0.0.1", "::1")
    assert resolve(network.socks, "127.0.0.1") == "localhost"
    with pytest.raises(SocksFailed) as failed:
        resolve(network.socks, "no-such-name.invalid")
    assert failed.value.code == HOST_UNREACHABLE


def test_resolving_a_name_again_takes_no_other_circuit(network: Network) -> None:
    before = {c["id"] for c in network.circuits()}
    for _ in range(5):
        resolve(network.socks, "localhost")
    assert len({c["id"] for c in network.circuits()} - before) <= 1, "one was taken, one built in its place"


def test_bytes_behind_the_request_are_not_lost(network: Network) -> None:
    """An application may send before it has the reply."""
    with tcp(echo) as target, socket.create_connection((network.socks.host, network.socks.port), 60) as s:
        where = b"\x09localhost" + target.port.to_bytes(2, "big")
        s.sendall(b"\5\1\0" + b"\5\1\0\3" + where + b"early")
        assert receive(s, 2 + 10) == b"\5\0" + b"\5\0\0\1" + bytes(6)
        assert receive(s, 5) == b"early"


def _say(network: Network, request: bytes) -> bytes:
    with socket.create_connection((network.socks.host, network.socks.port), 20) as s:
        s.sendall(request)
        return receive_all(s)


def test_bind_is_not_served(network: Network) -> None:
    reply = _say(network, b"\5\1\0" + b"\5\2\0\1\x7f\0\0\1\0\x50")
    assert reply[:2] == b"\5\0"
    assert reply[2:4] == bytes((5, NO_COMMAND))


def test_an_unknown_kind_of_address(network: Network) -> None:
    reply = _say(network, b"\5\1\0" + b"\5\1\0\2\x7f\0\0\1\0\x50")
    assert reply[2:4] == bytes((5, NO_ADDRESS))


def test_socks4_is_refused_in_its_own_words(network: Network, web: WebServer) -> None:
    """SOCKS4 looks names up locally: 91, request rejected."""
    assert _say(network, b"\4\1" + web.port.to_bytes(2, "big") + b"\x7f\0\0\1me\0")[:2] == b"\0\x5b"
    done = run(
        need("curl", "curl"),
        "-sS",
        "--noproxy",
        "",
        "--socks4",
        str(network.socks),
        f"http://127.0.0.1:{web.port}/",
    )
    assert done.returncode == 97, done.stderr


@pytest.mark.parametrize(
    "request_", [b"GET http://localhost/ HTTP/1.1\r\n\r\n", b"CONNECT localhost:443 HTTP/1.1\r\n\r\n"]
)
def test_http_on_the_socks_port_is_told_what_to_do(network: Network, request_: bytes) -> None:
    reply = _say(network, request_)
    assert reply.startswith(b"HTTP/1.1 501 ")
    assert b"SOCKS5" in reply
    assert b"http_port" in reply


def _connect_status(network: Network, host: str, port: int) -> bytes:
    with socket.create_connection((network.http.host, network.http.port), 60) as s:
        s.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        return receive_all(s).split(b" ", 2)[1]


def test_the_http_port_tells_failures_apart(network: Network) -> None:
    assert _connect_status(network, "127.0.0.1", free_port()) == b"502"
    assert _connect_status(network, "no-such-name.invalid", 80) == b"502"
    assert _connect_status(network, "127.66.1.2", 80) == b"403"
    with blackhole() as target:
        assert _connect_status(network, target.host, target.port) == b"504"
