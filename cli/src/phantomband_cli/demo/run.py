"""The demo itself."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from phantomband.core.errors import UserError

from phantomband_cli.demo.content import FILE_BYTES, FILE_NAME, FILE_SHA256
from phantomband_cli.demo.fetch import Fetched, fetch, need_curl
from phantomband_cli.show import path, progress
from phantomband_cli.testnet.layout import Layout, demo_directory
from phantomband_cli.testnet.options import HOPS, Options
from phantomband_cli.testnet.ports import can_bind
from phantomband_cli.testnet.up import Network, network


@dataclass(slots=True)
class Result:
    """The last line of `demo --once`."""

    ok: bool = False
    hops: int = 0
    sha256_ok: bool = False
    ttfb_ms: float = 0.0
    mb_per_s: float = 0.0
    start_s: float = 0.0


def run_demo(options: Options, once: bool) -> int:
    """Runs the demo; without `once` until Ctrl-C. Returns: exit code, 0 if everything was as it should be."""
    result = Result()
    try:
        _run(options, once, result)
    except UserError as e:
        print(f"error: {e}", file=sys.stderr, flush=True)
        result.ok = False
    except KeyboardInterrupt:
        print("stopped", flush=True)
        if once:
            result.ok = False
    if once:
        print(json.dumps(asdict(result)), flush=True)
    return 0 if result.ok else 1


def _run(options: Options, once: bool, result: Result) -> None:
    need_curl()
    began = time.monotonic()
    options = _with_free_port(options)
    layout = Layout.at(demo_directory())
    print(f"starting {options.nodes} nodes and a client, each service a process of its own:", flush=True)
    with (
        _web_server(layout.root.with_name("demo-content")) as port,
        network(layout, options, progress) as net,
    ):
        result.start_s = round(time.monotonic() - began, 2)
        print(f"up in {result.start_s:.1f} s\n", flush=True)
        _show(net, f"localhost:{port}", result)
        if once:
            print("stopping", flush=True)
        else:
            _stay(net, port)


def _with_free_port(options: Options) -> Options:
    """The demo takes another port where its own is taken (Tor Browser has the same)."""
    if options.socks_port == 0 or can_bind(options.socks_port):
        return options
    print(f"port {options.socks_port} is taken; the SOCKS5 proxy gets another one")
    return replace(options, socks_port=0)


def _show(net: Network, site: str, result: Result) -> None:
    socks = net.state().socks
    page = fetch(f"http://{site}/", socks)
    print(f"page   http://{site}/ (a name that only the exit looks up)")
    print(f"       {_said(page)}\n", flush=True)
    result.ttfb_ms = round(page.first_byte * 1e3, 1)
    hops: list[Mapping[str, str]] = []
    file = fetch(f"http://{site}/{FILE_NAME}", socks, lambda: hops.extend(_hops(net)))
    result.hops = len(hops)
    result.mb_per_s = round(file.mb_per_s, 1)
    result.sha256_ok = file.ok and file.size == FILE_BYTES and file.sha256 == FILE_SHA256
    result.ok = page.ok and result.sha256_ok and result.hops == HOPS
    print(f"file   http://{site}/{FILE_NAME}")
    print(f"       {_said(file)}")
    print(f"path   you -> {path(hops)} -> web server" if hops else "path   unknown: the client does not say")
    print(f"SHA-256 {file.sha256}: {'as it should be' if result.sha256_ok else 'WRONG'}\n", flush=True)


def _said(got: Fetched) -> str:
    if not got.ok:
        return f"failed: {got.error}"
    size = f"{got.size / 1e6:.0f} MB" if got.size >= 1e6 else f"{got.size} bytes"
    speed = f", {got.mb_per_s:.1f} MB/s" if got.size >= 1e6 else ""
    return f"{size}, first byte after {got.first_byte * 1e3:.0f} ms{speed}"


def _hops(net: Network) -> Sequence[Mapping[str, str]]:
    """Path of the circuit that carries streams now."""
    from phantomband_cli.control import ClientControl, NoAnswer, circuit_json

    try:
        with ClientControl(net.layout.client_socket) as client:
            found: list[dict[str, Any]] = [circuit_json(c) for c in client.circuits().circuits]
    except NoAnswer:
        return []
    busy = [c["hops"] for c in found if c["streams"]]
    return busy[0] if busy else []


def _stay(net: Network, port: int) -> None:
    socks = net.state().socks
    print(f"The network runs until Ctrl-C. SOCKS5 proxy at {socks}. Try, in another terminal:")
    print(f"  curl --socks5-hostname {socks} http://localhost:{port}/")
    print(f"  curl --socks5-hostname {socks} -o /dev/null http://localhost:{port}/{FILE_NAME}")
    print("  .venv/bin/phantomband circuits")
    print("  .venv/bin/phantomband testnet status", flush=True)
    net.wait()


@contextmanager
def _web_server(directory: Path) -> Iterator[int]:
    """A web server of its own process; it ends with us. Gives its port."""
    command = [sys.executable, "-m", "phantomband_cli.demo.webserver", str(directory)]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    assert server.stdin is not None and server.stdout is not None  # noqa: S101, PT018 - asked for in the line above
    try:
        line = server.stdout.readline()
        if not line:
            raise UserError(f"the demo's web server did not start in {directory}. See its message above")
        yield int(line)
    finally:
        server.stdin.close()
        server.stdout.close()
        server.kill()
        server.wait()
