"""A socket is bound at the path that was given, whatever bytes it has."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from hypothesis import given
from hypothesis import strategies as st
from phantomband.core.errors import UserError
from phantomband.runtime.service import bind
from phantomband.runtime.unix_path import quoted, target, unquoted

NAMES = ["a b", "50% off", "my%20dir", "c#1", "what?x=1", 'q"uote', "käse-日本", "📁", "latin\udce9", "a;b@c:1", "a\nb"]


@pytest.mark.parametrize("name", NAMES)
def test_server_and_client_meet_there_and_nothing_is_made_elsewhere(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    asyncio.run(_meet(folder))
    assert list(tmp_path.iterdir()) == [folder]


async def _meet(folder: Path) -> None:
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    bind(server, folder / "s.sock")
    await server.start()
    async with grpc.aio.insecure_channel(target(folder / "s.sock")) as channel:
        await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
    assert [p.name for p in folder.iterdir()] == ["s.sock"]
    assert (folder / "s.sock").stat().st_mode & 0o077 == 0
    await server.stop(None)


@given(st.binary(min_size=1).filter(lambda raw: b"\0" not in raw))
def test_any_path_comes_back_from_its_text(raw: bytes) -> None:
    text = quoted(Path(os.fsdecode(b"/" + raw)))
    assert text.isascii()
    assert os.fsencode(unquoted(text)) == os.fsencode(Path(os.fsdecode(b"/" + raw)))


@pytest.mark.parametrize("path", ["/x/a,b/s.sock", "/" + "x" * 107])
def test_what_cannot_be_bound_is_said(path: str) -> None:
    with pytest.raises(UserError, match="run_dir"):
        target(Path(path))
