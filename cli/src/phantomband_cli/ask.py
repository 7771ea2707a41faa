"""`status`, `circuits`, `newnym`, `transports`: questions to a running client."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from phantomband.core.errors import UserError

from phantomband_cli import show
from phantomband_cli.control import ClientControl, NoAnswer, circuit_json, status_json, transports_json
from phantomband_cli.testnet.state import client_socket, find

SOCKET = "client.sock"

T = TypeVar("T")


def find_socket(config: Path | None, run_dir: Path | None, directory: Path | None) -> Path:
    """The client that is meant, as its control socket: by directory, configuration, or the test network's."""
    if run_dir is not None:
        return run_dir / SOCKET
    if config is not None:
        from phantomband.runtime.settings import ClientConfig, load

        return load(ClientConfig, config).sockets / SOCKET
    return client_socket(find(directory))


def show_status(config: Path | None, run_dir: Path | None, directory: Path | None, as_json: bool) -> None:
    status = status_json(_ask(find_socket(config, run_dir, directory), lambda client: client.status()))
    if as_json:
        print(json.dumps(status))
    else:
        show.client(status)


def show_circuits(config: Path | None, run_dir: Path | None, directory: Path | None, as_json: bool) -> None:
    reply = _ask(find_socket(config, run_dir, directory), lambda client: client.circuits())
    found = [circuit_json(circuit) for circuit in reply.circuits]
    if as_json:
        print(json.dumps({"circuits": found}))
    else:
        show.circuits(found)


def new_identity(config: Path | None, run_dir: Path | None, directory: Path | None, as_json: bool) -> None:
    reply = _ask(find_socket(config, run_dir, directory), lambda client: client.new_identity())
    if as_json:
        print(json.dumps({"circuits_retired": reply.circuits_retired}))
    else:
        print(f"new streams use new circuits from now on; {reply.circuits_retired} retired")


def show_transports(config: Path | None, run_dir: Path | None, directory: Path | None, as_json: bool) -> None:
    found = transports_json(_ask(find_socket(config, run_dir, directory), lambda client: client.transports()))
    if as_json:
        print(json.dumps(found))
    else:
        show.transports(found, time.time())


def _ask(socket: Path, question: Callable[[ClientControl], T]) -> T:
    try:
        with ClientControl(socket) as client:
            return question(client)
    except NoAnswer:
        raise UserError(
            f"no client answers at {socket}. Start one (phantomband client, or phantomband testnet up), "
            "or say which with --config or --run-dir"
        ) from None
