"""A local Tor network from Debian's `tor`: 3 authorities, 5 relays, 1 client, in a directory of its own.

Only loopback addresses are used; everything ends with the context.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

COMMON = """
TestingTorNetwork 1
AssumeReachable 1
PathsNeededToBuildCircuits 0.67
ShutdownWaitLength 0
DisableDebuggerAttachment 0
Log notice file {dir}/log
DataDirectory {dir}
PidFile {dir}/pid
Nickname {name}
Address 127.0.0.1
V3AuthNIntervalsValid 3
ControlPort 0
RunAsDaemon 0
"""

RELAY = """
SocksPort 0
ORPort 127.0.0.1:{orport}
ServerDNSDetectHijacking 0
ServerDNSTestAddresses
ExitRelay 1
IPv6Exit 1
ExitPolicy accept *:*
ExitPolicyRejectPrivate 0
ContactInfo bench@localhost.invalid
"""

AUTHORITY = """
AuthoritativeDirectory 1
V3AuthoritativeDirectory 1
DirPort 127.0.0.1:{dirport}
TestingV3AuthInitialVotingInterval 10
TestingV3AuthInitialVoteDelay 2
TestingV3AuthInitialDistDelay 2
V3AuthVotingInterval 10
V3AuthVoteDelay 2
V3AuthDistDelay 2
TestingDirAuthVoteGuard *
TestingDirAuthVoteExit *
TestingMinExitFlagThreshold 0
"""

CLIENT = """
SocksPort 127.0.0.1:{socks} IsolateSOCKSAuth
ClientUseIPv6 0
UseMicrodescriptors 1
"""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


class TorNetwork:
    """Context manager; `socks` is the client's port."""

    def __init__(self, root: Path, relays: int = 5, authorities: int = 3) -> None:
        self._root = root
        self._relays = relays
        self._authorities = authorities
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._lines = ""
        self.socks = free_port()

    def __enter__(self) -> TorNetwork:
        shutil.rmtree(self._root, ignore_errors=True)
        self._root.mkdir(parents=True, mode=0o700)
        names = [f"auth{i}" for i in range(self._authorities)]
        ports = {name: (free_port(), free_port()) for name in names}
        self._lines = "".join(self._dir_authority(name, *ports[name]) for name in names)
        for name in names:
            self._write(name, RELAY.format(orport=ports[name][0]) + AUTHORITY.format(dirport=ports[name][1]))
        for i in range(self._relays):
            self._write(f"relay{i}", RELAY.format(orport=free_port()))
        self._write("client", CLIENT.format(socks=self.socks))
        for name in [*names, *(f"relay{i}" for i in range(self._relays)), "client"]:
            self.start(name)
        try:
            self.wait_bootstrapped()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.wait()

    @property
    def pids(self) -> list[int]:
        return [p.pid for p in self._processes.values()]

    def start(self, name: str) -> None:
        self._processes[name] = subprocess.Popen(
            ["tor", "-f", str(self._root / name / "torrc")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def cold_client(self, socks: int, home: Path) -> subprocess.Popen[bytes]:
        """A second client that knows nothing yet."""
        home.mkdir(mode=0o700, parents=True)
        text = COMMON.format(dir=home, name="cold") + CLIENT.format(socks=socks) + self._lines
        (home / "torrc").write_text(text)
        return subprocess.Popen(
            ["tor", "-f", str(home / "torrc")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def wait_bootstrapped(self, seconds: float = 90) -> None:
        """Until the client's log says so."""
        log = self._root / "client" / "log"
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if log.exists() and "Bootstrapped 100%" in log.read_text(errors="replace"):
                return
            time.sleep(0.1)
        raise RuntimeError(f"Tor did not bootstrap in {seconds} s; see {log}")

    def _write(self, name: str, extra: str) -> None:
        home = self._root / name
        home.mkdir(mode=0o700, exist_ok=True)
        (home / "torrc").write_text(COMMON.format(dir=home, name=name) + extra + self._lines)

    def _dir_authority(self, name: str, orport: int, dirport: int) -> str:
        home = self._root / name
        keys = home / "keys"
        keys.mkdir(parents=True, mode=0o700)
        home.chmod(0o700)
        subprocess.run(
            ["tor-gencert", "--create-identity-key", "-m", "12", "-a", f"127.0.0.1:{dirport}", "--passphrase-fd", "0",
             "-i", str(keys / "authority_identity_key"), "-s", str(keys / "authority_signing_key"),
             "-c", str(keys / "authority_certificate")],
            input=b"bench\n", check=True, capture_output=True,
        )  # fmt: skip
        certificate = (keys / "authority_certificate").read_text()
        v3ident = next(line.split()[1] for line in certificate.splitlines() if line.startswith("fingerprint"))
        listed = subprocess.run(
            ["tor", "--list-fingerprint", "--orport", "1", "--dirserver", "x 127.0.0.1:1 " + "f" * 40,
             "--datadirectory", str(home), "--nickname", name, "--quiet"],
            check=True, capture_output=True, env={**os.environ, "HOME": str(home)},
        ).stdout.decode()  # fmt: skip
        fingerprint = "".join(listed.strip().splitlines()[-1].split()[1:])
        return f"DirAuthority {name} orport={orport} v3ident={v3ident} 127.0.0.1:{dirport} {fingerprint}\n"
