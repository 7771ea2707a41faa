"""The first step of a container network."""

from __future__ import annotations

from pathlib import Path

import pytest
from phantomband.core.crypto.sign import IDENTITY_PRIVATE_BYTES, IdentityKey
from phantomband.core.errors import UserError
from phantomband.core.netdir.genesis_file import load_genesis
from phantomband_cli.ceremony import Seat, hold

SEATS = [Seat.parse(f"n{i}=tcp://10.0.1.{i}:9001,tls://10.0.2.{i}:9002") for i in (1, 2, 3)]


def _random(size: int) -> bytes:
    _random.count += 1  # type: ignore[attr-defined]
    return bytes([_random.count % 256]) * size  # type: ignore[attr-defined]


_random.count = 0  # type: ignore[attr-defined]


def test_keys_and_genesis_belong_together(tmp_path: Path) -> None:
    file = tmp_path / "genesis.json"
    assert hold(tmp_path, file, SEATS, 3, 1e9, _random)
    genesis = load_genesis(file)
    assert genesis.test_network
    assert genesis.clock.start_time == 10**9
    for i, (directory, seat) in enumerate(zip(genesis.directories, SEATS, strict=True), 1):
        key = tmp_path / str(i) / "directory" / "identity.key"
        assert key.stat().st_mode & 0o777 == 0o600
        assert len(key.read_bytes()) == IDENTITY_PRIVATE_BYTES
        assert directory.identity == IdentityKey(key.read_bytes()).public.raw
        assert directory.nickname == seat.nickname
        places = [[(a.transport, a.host, a.port) for a in one.addresses] for one in (directory, seat)]
        assert places[0] == places[1]
        assert all("knock" in dict(a.parameters) for a in directory.addresses if a.transport in ("tls", "quic"))
    assert file.stat().st_mode & 0o777 == 0o644


def test_a_network_that_is_there_stays(tmp_path: Path) -> None:
    file = tmp_path / "genesis.json"
    hold(tmp_path, file, SEATS, 3, 1e9, _random)
    before = file.read_bytes()
    assert not hold(tmp_path, file, SEATS, 3, 2e9, _random)
    assert file.read_bytes() == before


@pytest.mark.parametrize("text", ["", "n1", "n1=", "=tcp://10.0.0.1:1", "n1=tcp://name:1", "n1=10.0.0.1:1"])
def test_seats_that_cannot_be(text: str) -> None:
    with pytest.raises(UserError, match="Write NAME="):
        Seat.parse(text)
