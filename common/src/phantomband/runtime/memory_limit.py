"""How much memory this process may take: the limit of its control group, a configured one, or a share of the machine.

Linux tells a process its groups in `/proc/self/cgroup` (cgroups(7)) and each group's limit in a file:

    version 2    0::PATH             MOUNT/PATH/memory.max, memory.high              a number of bytes, or "max"
    version 1    N:memory:PATH       MOUNT/memory/PATH/memory.limit_in_bytes         about 2^63 where there is none

A limit of any group above holds too. In a container PATH may be seen from outside, so what is missing is passed over:
the walk ends at the mount, which is the container's own group.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

MACHINE_SHARE = 8
"""Without a limit, one service takes at most an eighth of the machine: a node has four, and is not alone."""

HELD_SHARE = 4
"""A quarter of the limit is for what peers make us hold and is counted, and as much for what is bounded by numbers of
links, connections and cells (docs/explanation/limits.md adds it up). The interpreter and its code take 60 to 90 MB, a
relay's worker 40, the allocator's loss comes on top; and where all services of a node share one group (systemd), two
of them, gateway and relay, hold for peers."""

SMALLEST_BYTES = 32 * 1024 * 1024
"""A budget is never smaller: below, nothing could be carried."""

NO_LIMIT_BYTES = 1 << 60
"""What version 1 says where there is no limit is larger."""


def held_bytes(
    configured: int = 0, proc: Path = Path("/proc/self/cgroup"), mount: Path = Path("/sys/fs/cgroup")
) -> int:
    """Bytes that a process may hold for its peers.

    Args: configured: bytes that the whole process may take; 0: as much as its control group lets it.
    """
    limits = [*([configured] if configured else ()), *_cgroup_limits(proc, mount)]
    whole = min(limits) if limits else _machine_bytes() // MACHINE_SHARE
    return max(SMALLEST_BYTES, whole // HELD_SHARE)


def _cgroup_limits(proc: Path, mount: Path) -> Iterator[int]:
    try:
        lines = proc.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            yield from _read(mount, path, ("memory.max", "memory.high"))
        elif "memory" in controllers.split(","):
            yield from _read(mount / "memory", path, ("memory.limit_in_bytes",))


def _read(mount: Path, path: str, names: tuple[str, ...]) -> Iterator[int]:
    """The limits of a group and of all above it."""
    group = mount / path.lstrip("/")
    for level in (group, *group.parents):
        for name in names:
            try:
                text = (level / name).read_text().strip()
            except (OSError, UnicodeDecodeError):
                continue
            if text.isascii() and text.isdigit() and 0 < int(text) < NO_LIMIT_BYTES:
                yield int(text)
        if level == mount:
            return


def _machine_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
