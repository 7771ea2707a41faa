"""What a process may hold follows from the limit that really holds for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from phantomband.runtime.memory_limit import HELD_SHARE, MACHINE_SHARE, SMALLEST_BYTES, _machine_bytes, held_bytes

MIB = 1024 * 1024


def lay(tmp_path: Path, groups: str, **limits: str) -> tuple[Path, Path]:
    """Args: limits: file below the mount, `__` for `/` and `-` for `.`, and what it holds."""
    proc, mount = tmp_path / "cgroup", tmp_path / "mount"
    proc.write_text(groups)
    for name, text in limits.items():
        path = mount / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return proc, mount


def test_version_2_names_the_group_and_those_above(tmp_path: Path) -> None:
    proc, mount = lay(
        tmp_path, "0::/node/relay\n", node__relay__memory_dot_max="max\n", node__memory_dot_max=f"{512 * MIB}\n"
    )
    assert held_bytes(0, proc, mount) == 512 * MIB // HELD_SHARE


def test_in_a_container_the_mount_is_the_group(tmp_path: Path) -> None:
    proc, mount = lay(tmp_path, "0::/system/docker-1\n", memory_dot_max=f"{1024 * MIB}")
    assert held_bytes(0, proc, mount) == 1024 * MIB // HELD_SHARE


def test_version_1(tmp_path: Path) -> None:
    proc, mount = lay(
        tmp_path, "3:cpu,cpuacct:/x\n5:memory:/x\n0::/x\n",
        memory__x__memory_dot_limit_in_bytes=f"{300 * MIB}", memory__memory_dot_limit_in_bytes="9223372036854771712",
    )  # fmt: skip
    assert held_bytes(0, proc, mount) == 300 * MIB // HELD_SHARE


def test_the_smaller_of_configured_and_group_holds(tmp_path: Path) -> None:
    proc, mount = lay(tmp_path, "0::/\n", memory_dot_max=f"{512 * MIB}", memory_dot_high=f"{400 * MIB}")
    assert held_bytes(200 * MIB, proc, mount) == 200 * MIB // HELD_SHARE
    assert held_bytes(900 * MIB, proc, mount) == 400 * MIB // HELD_SHARE


@pytest.mark.parametrize("groups", ["", "nonsense", "0::/none"])
def test_without_a_limit_it_is_a_share_of_the_machine(tmp_path: Path, groups: str) -> None:
    proc, mount = lay(tmp_path, groups)
    assert held_bytes(0, proc, mount) == max(SMALLEST_BYTES, _machine_bytes() // MACHINE_SHARE // HELD_SHARE)
    assert held_bytes(0, tmp_path / "absent", mount) == held_bytes(0, proc, mount)


def test_a_budget_is_never_too_small_to_carry_anything(tmp_path: Path) -> None:
    proc, mount = lay(tmp_path, "0::/\n", memory_dot_max="4096")
    assert held_bytes(0, proc, mount) == SMALLEST_BYTES
