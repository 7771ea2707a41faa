"""A real unbound on loopback: DNS over UDP, TCP and HTTPS, which sends a tunnel's zone to a port of ours."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

UNBOUND = shutil.which("unbound", path="/usr/sbin:/usr/bin:/sbin:/bin")

CONFIG = """
server:
  verbosity: 0
  username: ""
  chroot: ""
  directory: "{folder}"
  pidfile: "{folder}/unbound.pid"
  logfile: "{folder}/unbound.log"
  use-syslog: no
  do-daemonize: no
  num-threads: 1
  interface: {at}@{port}
  interface: {at}@{https}
  https-port: {https}
  tls-service-key: "{folder}/key.pem"
  tls-service-pem: "{folder}/cert.pem"
  do-not-query-localhost: no
  access-control: 0.0.0.0/0 allow
  module-config: "iterator"
  local-zone: "test." nodefault
  domain-insecure: "test."
  use-caps-for-id: {caps}
  qname-minimisation: yes
  root-hints: ""
stub-zone:
  name: "{zone}"
  stub-addr: 127.0.0.1@{server}
"""


@dataclass
class Resolver:
    port: int
    https: int
    log: Path


def free_port() -> int:
    """One that is free for TCP and UDP."""
    while True:
        with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            try:
                udp.bind(("127.0.0.1", tcp.getsockname()[1]))
            except OSError:
                continue
            return int(tcp.getsockname()[1])


@contextmanager
def unbound(
    folder: Path, zone: str, server: int, caps: bool = True, at: str = "127.0.0.1", within: Sequence[str] = ()
) -> Iterator[Resolver]:
    """Args: server: port of the zone's name server; caps: with 0x20 case randomisation; at: where it listens; within:
    what runs a command in its network namespace."""
    assert UNBOUND is not None
    port, https = free_port(), free_port()
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=resolver.test", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True, timeout=30,
    )  # fmt: skip
    config = folder / "unbound.conf"
    config.write_text(
        CONFIG.format(
            folder=folder, at=at, port=port, https=https, zone=zone, server=server, caps="yes" if caps else "no"
        )
    )
    process = subprocess.Popen([*within, UNBOUND, "-d", "-c", config], stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if process.poll() is not None:
                assert process.stderr is not None
                raise AssertionError(f"unbound ended: {process.stderr.read().decode()}")
            if _answers(at, https, within):
                break
            time.sleep(0.05)
        yield Resolver(port, https, folder / "unbound.log")
    finally:
        process.terminate()
        process.wait(10)


def _answers(at: str, port: int, within: Sequence[str]) -> bool:
    if within:
        there = f"import socket; socket.create_connection(({at!r}, {port}), 1)"
        return subprocess.run([*within, sys.executable, "-c", there], capture_output=True).returncode == 0
    try:
        socket.create_connection((at, port), 1).close()
    except OSError:
        return False
    return True
