"""What `testnet up`, `down` and `status` do."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from phantomband_cli.testnet import status as status_module
from phantomband_cli.testnet.down import down as stop_network
from phantomband_cli.testnet.layout import Layout
from phantomband_cli.testnet.options import Options
from phantomband_cli.testnet.state import State, find
from phantomband_cli.testnet.up import Network, network


def up(options: Options, directory: Path | None, detach: bool, as_json: bool) -> None:
    """Starts a network; returns at once when it is up and `detach` is set, else when it has ended."""
    began = time.monotonic()
    layout = Layout.at(directory)
    with network(layout, options, _quiet if as_json else _progress) as running:
        seconds = round(time.monotonic() - began, 2)
        state = running.state()
        if as_json:
            said = {"socks": state.socks, "http": state.http, "dir": str(layout.root), "start_s": seconds}
            print(json.dumps(said), flush=True)
        else:
            _say_up(state, layout, seconds, detach)
        if detach:
            running.let_go()
        else:
            _hold(running)


def _hold(running: Network) -> None:
    """Until Ctrl-C, which is the way to end it, or until it has ended."""
    try:
        running.wait()
    except KeyboardInterrupt:
        print("stopping", file=sys.stderr, flush=True)


def _progress(percent: int, phase: str) -> None:
    print(f"  {percent:3d}%  {phase}", flush=True)


def _quiet(percent: int, phase: str) -> None:
    pass


def _say_up(state: State, layout: Layout, seconds: float, detach: bool) -> None:
    options = state.options
    where = layout.flag
    roles = f"{options.exits} exits, {options.directories} directories"
    print(f"{options.nodes} nodes ({roles}) up in {seconds:.1f} s")
    print(f"SOCKS5 proxy at {state.socks}" + (f", HTTP proxy at {state.http}" if state.http else ""))
    print(f"  try   curl --socks5-hostname {state.socks} http://example.com/")
    print(f"  look  phantomband testnet status{where}; phantomband circuits{where}; logs in {layout.logs}")
    print(f"  stop  {f'phantomband testnet down{where}' if detach else 'Ctrl-C'}", flush=True)


def down(directory: Path | None, quiet: bool) -> None:
    """Stops the network."""
    layout = Layout.at(directory)
    was_running = stop_network(layout)
    if not quiet:
        print("stopped" if was_running else f"no test network runs in {layout.root}")


def status(directory: Path | None, as_json: bool) -> int:
    """Prints what runs. Returns: exit code, 1 if nothing does."""
    layout = find(directory)
    found = status_module.gather(layout)
    if as_json:
        print(json.dumps(found))
    elif found["running"]:
        from phantomband_cli.show import testnet

        testnet(found)
    else:
        print(f"no test network runs in {layout.root}. Start one with: phantomband testnet up")
    return 0 if found["running"] else 1
