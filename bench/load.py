"""Loads and measures, the same for every network: curl through a SOCKS port, CPU of given processes, percentiles."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system seconds of these processes, with their children that ended and were waited for."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        total += sum(int(f) for f in fields[11:15])
    return total / CLOCK_TICKS


def curl(socks: int, url: str, user: str | None = None, seconds: float = 300) -> subprocess.Popen[str]:
    """Starts one fetch; what `finish` reads from it are bytes, total seconds, seconds to the first byte."""
    arguments = [
        "curl",
        "-sS",
        "--max-time",
        str(seconds),
        "-o",
        "/dev/null",
        "--socks5-hostname",
        f"127.0.0.1:{socks}",
    ]
    if user is not None:
        arguments += ["--proxy-user", f"{user}:x"]
    arguments += ["-w", "%{size_download} %{time_total} %{time_starttransfer} %{http_code}", url]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> tuple[float, float, float]:
    """(bytes, seconds, seconds to first byte).

    Raises:
        RuntimeError: the fetch failed.
    """
    out, error = process.communicate()
    if process.returncode or not out.endswith(" 200"):
        raise RuntimeError(f"a fetch failed: {error.strip() or out}")
    size, total, first, _ = out.split()
    return float(size), float(total), float(first)


def fetch_all(socks: int, url: str, users: Sequence[str]) -> float:
    """MB/s of all fetches together, one for each user, at once."""
    started = time.monotonic()
    done = [finish(p) for p in [curl(socks, url, user) for user in users]]
    return sum(size for size, _, _ in done) / 1e6 / (time.monotonic() - started)


def first_bytes(socks: int, url: str, count: int, user: str) -> list[float]:
    """Milliseconds to the first byte of `count` fetches in turn."""
    return [finish(curl(socks, url, user))[2] * 1000 for _ in range(count)]


def start_to_request(socks: int, url: str, started: float, seconds: float = 60) -> float:
    """Seconds from `started` (time.monotonic) until a request has succeeded; tried again at once when it fails."""
    end = started + seconds
    while time.monotonic() < end:
        try:
            finish(curl(socks, url, None, 20))
            return time.monotonic() - started
        except RuntimeError:
            time.sleep(0.02)
    raise RuntimeError(f"no request succeeded within {seconds} s")


def percentile(values: Sequence[float], part: float) -> float:
    """The value below which `part` (0 to 1) of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def median(values: Sequence[float]) -> float:
    return percentile(values, 0.5)
