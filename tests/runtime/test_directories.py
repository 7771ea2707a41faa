"""A directory of state or sockets is one program's, and closed to others."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from phantomband.core.errors import UserError
from phantomband.runtime import directories
from phantomband.runtime.directories import LOCK_FILE, held, make_private


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_directory_is_made_for_us_alone(tmp_path: Path) -> None:
    assert mode(make_private(tmp_path / "a" / "b")) == 0o700


@pytest.mark.parametrize("before", [0o755, 0o750, 0o711, 0o700])
def test_our_own_is_closed_to_those_who_could_look_in(tmp_path: Path, before: int) -> None:
    path = tmp_path / "a"
    path.mkdir()
    path.chmod(before)
    assert mode(make_private(path)) == 0o700


@pytest.mark.parametrize("before", [0o777, 0o775, 0o770, 0o702, 0o1777])
def test_one_that_others_could_write_to_is_refused(tmp_path: Path, before: int) -> None:
    path = tmp_path / "a"
    path.mkdir()
    path.chmod(before)
    with pytest.raises(UserError, match=r"others may write to it.*chmod 700"):
        make_private(path)


@pytest.mark.parametrize(
    ("owner", "group", "bits", "mount", "good"),
    [
        (1, 5, 0o700, False, False),
        (1, 5, 0o755, True, False),
        (0, 0, 0o755, False, True),
        (0, 0, 0o777, False, False),
        (0, 0, 0o777, True, False),
        (0, 5, 0o2770, False, True),  # a volume of a pod with an fsGroup
        (0, 5, 0o2777, True, True),  # its directory in memory
        (0, 5, 0o2777, False, False),
        (0, 6, 0o2770, True, False),
    ],
)
def test_whose_directory_it_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, owner: int, group: int, bits: int, mount: bool, good: bool
) -> None:
    found = SimpleNamespace(st_uid=owner, st_gid=group, st_mode=0o40000 | bits)
    monkeypatch.setattr(Path, "stat", lambda self, **_: found)
    monkeypatch.setattr(Path, "mkdir", lambda self, **_: None)
    monkeypatch.setattr(Path, "is_mount", lambda self: mount)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getegid", lambda: 5)
    if good:
        assert make_private(tmp_path) == tmp_path
    else:
        with pytest.raises(UserError, match="another user"):
            make_private(tmp_path)


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be made"):
        make_private(tmp_path / "file" / "a")


def test_a_second_program_is_told_who_uses_the_directory(tmp_path: Path) -> None:
    with held(tmp_path, "client", "SOCKS 9150"):
        words = rf"a client \(pid {os.getpid()}, SOCKS 9150\) already uses"
        with pytest.raises(UserError, match=words), held(tmp_path, "client"):
            pytest.fail("two at once")
    with held(tmp_path, "client", "SOCKS 9151"):
        assert (tmp_path / LOCK_FILE).read_text() == f"pid {os.getpid()}, SOCKS 9151"
        assert mode(tmp_path / LOCK_FILE) == 0o600


def test_who_died_holds_nothing(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from phantomband.runtime.directories import held\n"
        "held(Path(sys.argv[1]), 'client').__enter__(); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 9
    with held(tmp_path, "client"):
        pass


@pytest.mark.parametrize(
    ("number", "goes_on"), [(errno.ENOSPC, True), (errno.ENOLCK, True), (errno.EROFS, False), (errno.EACCES, False)]
)
def test_a_full_disk_does_not_keep_us_from_starting_a_read_only_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, number: int, goes_on: bool
) -> None:
    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(directories.os, "open", fail)
    ran = []
    if goes_on:
        with held(tmp_path, "client"):
            ran.append(True)
    else:
        with pytest.raises(UserError, match="cannot be written to"), held(tmp_path, "client"):
            ran.append(True)
    assert bool(ran) is goes_on
