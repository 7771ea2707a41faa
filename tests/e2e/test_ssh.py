"""ssh and scp through a ProxyCommand, to a private sshd on 127.0.0.1."""

from __future__ import annotations

import getpass
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from e2e_net import Network, die_with_parent, need, run, succeed, until
from e2e_servers import content, free_port

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SIZE = 5_000_000
PRIVILEGE_SEPARATION = Path("/run/sshd")
"""Debian's sshd wants it when root starts it; the package's service makes it."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running sshd and the files that open it."""

    port: int
    key: Path
    known_hosts: Path

    def options(self, network: Network) -> list[str]:
        proxy = f"{need('nc', 'netcat-openbsd')} -X 5 -x {network.socks} %h %p"
        return [
            *("-F", "/dev/null", "-i", str(self.key)),
            *("-o", f"ProxyCommand={proxy}", "-o", f"UserKnownHostsFile={self.known_hosts}"),
            *("-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"),
        ]


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    program, keygen = need("sshd", "openssh-server"), need("ssh-keygen", "openssh-client")
    directory = tmp_path_factory.mktemp("sshd")
    host, key, port = directory / "host", directory / "key", free_port()
    for file in (host, key):
        succeed(keygen, "-q", "-t", "ed25519", "-N", "", "-f", file)
    known = directory / "known_hosts"
    known.write_text(f"[localhost]:{port} {host.with_suffix('.pub').read_text()}")
    config = directory / "sshd_config"
    config.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {host}\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {key}.pub\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
        "Subsystem sftp internal-sftp\n"
    )
    if os.geteuid() == 0:
        PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
    log = directory / "log"
    log.touch()
    with subprocess.Popen(
        [program, "-D", "-f", str(config), "-E", str(log)], preexec_fn=die_with_parent
    ) as server:  # fmt: skip
        try:
            until(f"sshd listens: {log}", lambda: server.poll() is None and b"listening" in log.read_bytes())
            yield Server(port, key, known)
        finally:
            server.terminate()


def test_a_command_over_ssh(network: Network, sshd: Server) -> None:
    ssh = [need("ssh", "openssh-client"), *sshd.options(network), "-p", str(sshd.port)]
    where = f"{getpass.getuser()}@localhost"
    assert succeed(*ssh, where, "cat; echo done", input=b"through three hops\n") == b"through three hops\ndone\n"
    assert run(*ssh, where, "exit 7").returncode == 7


def test_files_over_scp(network: Network, sshd: Server, tmp_path: Path) -> None:
    scp = [need("scp", "openssh-client"), "-q", *sshd.options(network), "-P", str(sshd.port)]
    here, there, back = tmp_path / "here", tmp_path / "there", tmp_path / "back"
    here.write_bytes(content(SIZE))
    remote = f"{getpass.getuser()}@localhost:{there}"
    succeed(*scp, here, remote)
    assert there.read_bytes() == content(SIZE)
    succeed(*scp, remote, back)
    assert back.read_bytes() == content(SIZE)
