"""The hand-written health call against a real gRPC server."""

from __future__ import annotations

import socket
import threading
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from phantomband.runtime.healthcheck import is_serving, main

Status = health_pb2.HealthCheckResponse


@pytest.mark.parametrize(
    ("status", "expected"), [(Status.SERVING, True), (Status.NOT_SERVING, False), (Status.UNKNOWN, False)]
)
def test_says_what_the_service_says(tmp_path: Path, status: int, expected: bool) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(1))
    checks = health.HealthServicer()
    checks.set("", status)
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    path = tmp_path / "s.sock"
    server.add_insecure_port(f"unix:{path}")
    server.start()
    try:
        assert is_serving(str(path)) is expected
        assert main([str(path)]) == (0 if expected else 1)
        assert main(["--alive", str(path)]) == (0 if status else 1)
    finally:
        server.stop(0).wait()


def test_a_server_without_the_health_service_is_not_healthy(tmp_path: Path) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(1))
    server.add_insecure_port(f"unix:{tmp_path / 's.sock'}")
    server.start()
    try:
        assert not is_serving(str(tmp_path / "s.sock"))
        assert main(["--alive", str(tmp_path / "s.sock")]) == 1
    finally:
        server.stop(0).wait()


def test_nobody_listens(tmp_path: Path) -> None:
    assert not is_serving(str(tmp_path / "absent.sock"))
    assert main(["--alive", str(tmp_path / "absent.sock")]) == 1


@pytest.mark.parametrize("said", [b"", b"\x00", b"HTTP/1.1 400 Bad Request\r\n\r\n", bytes(9) * 3])
def test_something_else_listens(tmp_path: Path, said: bytes) -> None:
    path = str(tmp_path / "s.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        server = threading.Thread(target=_say, args=(listener, said))
        server.start()
        assert not is_serving(path)
        server.join()


def _say(listener: socket.socket, said: bytes) -> None:
    with listener.accept()[0] as s:
        s.recv(4096)
        s.sendall(said)


@pytest.mark.parametrize("arguments", [[], ["--alive"], ["--x", "y"], ["x", "y"]])
def test_usage(arguments: list[str]) -> None:
    assert main(arguments) == 2
