"""Keys in files: private, whole or not at all."""

from __future__ import annotations

import itertools
import os
import stat
from pathlib import Path

import pytest
from phantomband.core.errors import UserError
from phantomband.core.ids import NodeId
from phantomband.runtime import keystore
from phantomband.runtime.keystore import load_or_create, publish_node_id, wait_node_id, write_whole
from phantomband_cli.node import run_node
from phantomband_cli.supervisor import Supervisor
from world import Seeded


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_key_is_made_once_and_only_we_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "link"
    before = os.umask(0)
    try:
        secret = load_or_create(path, 32, Seeded(1))
    finally:
        os.umask(before)
    assert len(secret) == 32
    assert load_or_create(path, 32, Seeded(2)) == secret
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)
    assert os.listdir(path.parent) == ["link"]


@pytest.mark.parametrize("others", [0o640, 0o604, 0o660, 0o644])
def test_a_key_that_others_may_read_is_refused_with_the_remedy(tmp_path: Path, others: int) -> None:
    path = tmp_path / "link"
    load_or_create(path, 32, Seeded(1))
    path.chmod(others)
    with pytest.raises(UserError, match="chmod 600"):
        load_or_create(path, 32, Seeded(1))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_key_of_another_size_is_refused_and_left_alone(tmp_path: Path, size: int) -> None:
    path = tmp_path / "link"
    write_whole(path, bytes(size))
    with pytest.raises(UserError, match="32"):
        load_or_create(path, 32, Seeded(1))
    assert path.read_bytes() == bytes(size)


@pytest.mark.parametrize("zeros", [slice(0, 32), slice(16, 32), slice(0, 16), slice(8, 24)])
def test_zeros_that_a_power_cut_left_are_no_key_that_everybody_knows(tmp_path: Path, zeros: slice) -> None:
    path = tmp_path / "link"
    damaged = bytearray(load_or_create(path, 32, Seeded(1)))
    damaged[zeros] = bytes(len(damaged[zeros]))
    write_whole(path, damaged)
    with pytest.raises(UserError, match="damaged"):
        load_or_create(path, 32, Seeded(1))
    assert path.read_bytes() == damaged


def test_a_directory_that_cannot_be_made_is_the_users_to_mend(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Choose a directory"):
        load_or_create(tmp_path / "file" / "keys" / "link", 32, Seeded(1))


def test_a_write_that_fails_leaves_the_old_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "link"
    write_whole(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"


def test_the_node_id_is_published_and_found(tmp_path: Path) -> None:
    node = NodeId(b"n" * 32)
    publish_node_id(tmp_path / "run", node)
    assert wait_node_id(tmp_path / "run") == node
    assert (tmp_path / "run" / "node_id").read_text() == str(node)


def test_a_service_waits_for_the_node_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = NodeId(b"n" * 32)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            publish_node_id(tmp_path, node)

    monkeypatch.setattr(keystore.time, "sleep", sleep)
    assert wait_node_id(tmp_path) == node
    assert len(slept) == 3


def test_it_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(0.0, 1.0)
    monkeypatch.setattr(keystore.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(keystore.time, "sleep", lambda _: None)
    with pytest.raises(UserError, match="directory service"):
        wait_node_id(tmp_path)


@pytest.mark.parametrize("damaged", [b"", b"nonsense", bytes(52), b"\xff" * 52])
def test_a_damaged_node_id_is_waited_past(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: bytes) -> None:
    node = NodeId(b"n" * 32)
    write_whole(tmp_path / "node_id", damaged)
    monkeypatch.setattr(keystore.time, "sleep", lambda _: publish_node_id(tmp_path, node))
    assert wait_node_id(tmp_path) == node


def test_a_node_that_starts_takes_no_id_of_an_earlier_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    class Recorded(Supervisor):
        def run(self) -> int:
            seen.append((tmp_path / "data" / "run" / "node_id").exists())
            return 0

    monkeypatch.setattr("phantomband_cli.supervisor.Supervisor", Recorded)
    monkeypatch.setattr("phantomband_cli.services.warm_up", lambda _: None)
    monkeypatch.setattr("phantomband_cli.node.set_name", lambda _: None)
    file = tmp_path / "node.toml"
    file.write_text(
        f'genesis = "{tmp_path}/genesis.json"\ndata_dir = "{tmp_path}/data"\n[gateway]\nlisten = ["tcp://127.0.0.1:9001"]\n'
    )
    publish_node_id(tmp_path / "data" / "run", NodeId(b"o" * 32))
    assert run_node(file, []) == 0
    assert seen == [False]
