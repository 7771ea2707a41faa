"""`phantomband directory status | members | verify` and `phantomband bridge line | add | list | remove`."""

from __future__ import annotations

import json as json_module
import time
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from phantomband_cli.arguments import Json

Config = Annotated[Optional[Path], typer.Option("--config", help="A node's or client's file (TOML).")]  # noqa: UP045
NodeConfigFile = Annotated[Optional[Path], typer.Option("--config", help="The node's file (TOML).")]  # noqa: UP045
Directory = Annotated[Optional[Path], typer.Option("--dir", help="Where a test network keeps its files.")]  # noqa: UP045
Node = Annotated[Optional[str], typer.Option("--node", help="Which node of it. [default: n1]")]  # noqa: UP045
ClientConfigFile = Annotated[Optional[Path], typer.Option("--config", help="The client's file (TOML).")]  # noqa: UP045
DataDir = Annotated[Optional[Path], typer.Option("--data-dir", help="The client's directory.")]  # noqa: UP045
Qr = Annotated[bool, typer.Option("--qr", help="Each also as a QR code.")]
Client = Annotated[bool, typer.Option("--client", help="The view of the test network's client.")]


def register(directory: typer.Typer, bridge: typer.Typer) -> None:
    """Adds the commands."""
    for name, command in (("status", status), ("members", members), ("verify", verify)):
        directory.command(name)(command)
    for name, bridge_command in (("line", line), ("add", add), ("list", list_), ("remove", remove)):
        bridge.command(name)(bridge_command)
    bridge.callback()(_bridge)


def _bridge() -> None:
    """Beginning at one node, without a genesis file."""


def status(
    config: Config = None, directory: Directory = None, node: Node = None, client: Client = False, json: Json = False
) -> None:
    """How a node's directory stands, and who signed the newest view."""
    from phantomband_cli.inspect import show
    from phantomband_cli.inspect.source import Where, look
    from phantomband_cli.inspect.standing import status_json

    _print(status_json(look(Where(config, directory, node, client)), time.time()), json, show.status)


def members(
    config: Config = None, directory: Directory = None, node: Node = None, client: Client = False, json: Json = False
) -> None:
    """The relays of the view, and the directories that certify it."""
    from phantomband_cli.inspect import show
    from phantomband_cli.inspect.source import Where, look
    from phantomband_cli.inspect.standing import members_json

    _print(members_json(look(Where(config, directory, node, client))), json, show.members)


def verify(
    files: Annotated[list[Path], typer.Argument(help="A certified view; or two; or the folder of a fork's proof.")],
    genesis: Annotated[Path, typer.Option("--genesis", help="The network's genesis file.")],
    changes: Annotated[Optional[Path], typer.Option(help="Changes of the directories, as a client keeps them.")] = None,  # noqa: UP045
    json: Json = False,
) -> None:
    """Check a certified view, or the proof of a fork, without any network. Exit code 1: it does not hold."""
    from phantomband_cli.inspect.verify import verify as check

    verdict = check(files, genesis, changes)
    print(json_module.dumps(verdict.data) if json else verdict.text)
    raise typer.Exit(verdict.code)


def line(
    config: NodeConfigFile = None,
    directory: Directory = None,
    node: Node = None,
    transport: Annotated[Optional[str], typer.Option(help="Such as tls or obfs4; absent: all.")] = None,  # noqa: UP045
    qr: Qr = False,
    json: Json = False,
) -> None:
    """Print the bridge lines of a node that runs: a client can begin with one of them alone."""
    from phantomband_cli.inspect.bridge import bridge_lines
    from phantomband_cli.inspect.source import Where

    lines = bridge_lines(Where(config, directory, node), transport)
    if json:
        print(json_module.dumps({"lines": lines}))
        return
    for text in lines:
        print(text)
        if qr:
            _print_qr(text)


def add(
    lines: Annotated[list[str], typer.Argument(help="Bridge lines, each one argument; - reads them from input.")],
    config: ClientConfigFile = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Keep bridges for the client: from its next start on it begins there, and dials no other node."""
    from phantomband_cli.inspect.bridge_book import add_bridges

    added = add_bridges(lines, config, data_dir)
    print(json_module.dumps({"added": added.new, "bridges": added.total}) if json else added.text)


def list_(config: ClientConfigFile = None, data_dir: DataDir = None, qr: Qr = False, json: Json = False) -> None:
    """The client's bridges, in the order in which they are tried."""
    from phantomband_cli.inspect.bridge_book import stored

    lines = stored(config, data_dir).lines()
    if json:
        print(json_module.dumps({"lines": lines}))
        return
    for number, text in enumerate(lines, 1):
        print(f"{number}  {text}")
        if qr:
            _print_qr(text)


def remove(
    number: Annotated[int, typer.Argument(help="As `bridge list` shows them.")],
    config: ClientConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Forget a bridge."""
    from phantomband_cli.inspect.bridge_book import stored

    gone = stored(config, data_dir).remove(number)
    print(f"removed bridge {number} ({gone.address.transport}); the client knows at its next start")


def _print_qr(text: str) -> None:
    import segno

    segno.make(text, error="l", micro=False).terminal(compact=True)


def _print(data: dict[str, Any], as_json: bool, show: Any) -> None:
    if as_json:
        print(json_module.dumps(data))
    else:
        show(data)
