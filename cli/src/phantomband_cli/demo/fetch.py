"""Fetches with the real curl, through a SOCKS5 proxy that resolves names."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

from phantomband.core.errors import UserError

TIMEOUT_SECONDS = 120
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Fetched:
    """What one fetch gave."""

    ok: bool
    error: str
    """Of curl; empty if it went well."""
    size: int
    sha256: str
    first_byte: float
    """Seconds from curl's start to the first byte of the answer."""
    total: float
    """Seconds until the last one."""

    @property
    def mb_per_s(self) -> float:
        return self.size / self.total / 1e6 if self.total else 0.0


def need_curl() -> None:
    """Makes sure that there is a curl; as root on a system with apt-get it is installed.

    Raises:
        UserError: there is none.
    """
    if shutil.which("curl"):
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        print("installing curl ...", flush=True)
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for step in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "curl"]):
            subprocess.run(step, env=environment, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if not shutil.which("curl"):
        raise UserError("the demo fetches with curl, which is not installed. Run: apt-get install curl")


def fetch(url: str, socks: str, meanwhile: Callable[[], None] = lambda: None) -> Fetched:
    """Fetches `url`; `meanwhile` is called once, when the first bytes have come."""
    with tempfile.TemporaryFile() as notes:
        curl = subprocess.Popen(_command(url, socks), stdout=subprocess.PIPE, stderr=notes, stdin=subprocess.DEVNULL)
        try:
            digest, size = _read(curl, meanwhile)
            code = curl.wait()
        finally:
            curl.kill()
            curl.wait()
        notes.seek(0)
        return _result(code, size, digest, notes.read().decode(errors="replace"))


def _command(url: str, socks: str) -> list[str]:
    """-q and --noproxy: neither the user's curlrc nor NO_PROXY may lead it past the proxy."""
    quiet = ["-q", "--silent", "--show-error", "--fail", "--noproxy", ""]
    return [
        "curl", *quiet, "--max-time", str(TIMEOUT_SECONDS), "--socks5-hostname", socks,
        "--write-out", "%{stderr}\n%{json}", url,
    ]  # fmt: skip


def _read(curl: subprocess.Popen[bytes], meanwhile: Callable[[], None]) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    assert curl.stdout is not None  # noqa: S101 - asked for above
    while data := os.read(curl.stdout.fileno(), _CHUNK):
        digest.update(data)
        if size == 0:
            meanwhile()
        size += len(data)
    return digest.hexdigest(), size


def _result(code: int, size: int, digest: str, notes: str) -> Fetched:
    *messages, last = notes.strip().splitlines() or [""]
    try:
        times = json.loads(last)
    except ValueError:
        return Fetched(False, notes.strip() or f"curl exit code {code}", size, digest, 0.0, 0.0)
    error = " ".join(messages).strip() if code else ""
    return Fetched(code == 0, error, size, digest, times["time_starttransfer"], times["time_total"])
