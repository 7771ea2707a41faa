"""`node` and `client`: the services of one machine, in the foreground."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from phantomband.core.errors import UserError

from phantomband_cli.process import set_name

GRACE_SECONDS = 12.0
"""From SIGTERM to SIGKILL: services drain for up to 10 s."""

NODE_TEMPLATE = """\
# One PhantomBand node. All four services read this file. Check it with: phantomband config check {file}
nickname = {nickname}
genesis = {genesis}
data_dir = {data_dir}

[gateway]
listen = ["tcp://0.0.0.0:{port}"]
# advertise = ["tcp://192.0.2.1:{port}"]   # if others reach this node elsewhere (NAT, containers)

[relay]
# exit_policy = ["accept *:80", "accept *:443"]   # absent: no exit
bandwidth = 10_000_000   # bytes a second
"""


def write_node_config(
    file: Path, nickname: str, genesis: Path, data_dir: Path, port: int, *, founding: bool = False
) -> None:
    """`node init`. `founding`: the genesis file may be still to come.

    Raises:
        UserError: the file exists or cannot be written, or its values cannot work.
    """
    from phantomband_cli.config_check import check

    text = NODE_TEMPLATE.format(
        file=toml_value(str(file)),
        nickname=toml_value(nickname),
        genesis=toml_value(str(genesis.absolute())),
        data_dir=toml_value(str(data_dir.absolute())),
        port=port,
    )
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8", errors="surrogateescape") as f:
            f.write(text)
    except FileExistsError:
        raise UserError(f"{file}: exists already. Edit it, or choose another with --config") from None
    except OSError as e:
        raise UserError(f"{file}: cannot be written ({e.strerror}). Choose another with --config") from None
    try:
        check(file, "node", founding=founding)
    except UserError:
        file.unlink()
        raise


def run_node(config: Path, settings: Sequence[str]) -> int:
    """Runs the four services of a node until SIGTERM or SIGINT. Returns: exit code."""
    from phantomband.runtime.directories import held, make_private
    from phantomband.runtime.keystore import forget_node_id
    from phantomband.runtime.settings import NodeConfig, load

    from phantomband_cli.services import NODE_SERVICES, program, warm_up
    from phantomband_cli.supervisor import Supervisor

    read = load(NodeConfig, config, flags=settings)
    nickname = read.nickname
    make_private(read.data_dir)
    warm_up(NODE_SERVICES)
    set_name("pb-node")
    arguments = _arguments(config, settings)
    programs = [program(service, f"{nickname}.{service}", arguments, None) for service in NODE_SERVICES]
    with held(read.data_dir, "node", nickname):
        forget_node_id(read.sockets)
        return Supervisor(programs, _Quiet(), GRACE_SECONDS, stop_on_user_error=True).run()


def client_settings(bridges: Sequence[str], data_dir: Path | None, settings: Sequence[str]) -> list[str]:
    """`--bridge` and `--data-dir` as settings."""
    given = [f"bridges={toml_value(list(bridges))}"] if bridges else []
    given += [f"data_dir={toml_value(str(data_dir.absolute()))}"] if data_dir is not None else []
    return [*given, *settings]


def plugin_settings(key: str, lines: Sequence[str], settings: Sequence[str]) -> list[str]:
    """`--pt` as a setting: a list of TOML's inline tables.

    Raises:
        UserError: a line is not of the form `NAME exec PROGRAM`.
    """
    from phantomband.transports.managed.program import split_plugin

    if not lines:
        return list(settings)
    tables = []
    for line in lines:
        names, program, arguments = split_plugin(line)
        tables.append({"transports": names, "program": program, "arguments": arguments})
    return [f"{key}={toml_value(tables)}", *settings]


def toml_value(value: object) -> str:
    """On one line. JSON's numbers and booleans are TOML's too; its texts are not where they have surrogates (TOML 1.0).

    A path that is no UTF-8 keeps its bytes (PEP 383): the settings are read in the same way.
    """
    if isinstance(value, str):
        return '"' + "".join(map(_toml_character, value)) + '"'
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {toml_value(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    return json.dumps(value)


def _toml_character(c: str) -> str:
    if c in '"\\':
        return "\\" + c
    return f"\\u{ord(c):04x}" if c < " " or c == "\x7f" else c


def run_client(config: Path | None, settings: Sequence[str], progress: bool) -> None:
    """Runs the client in this process until SIGTERM or SIGINT."""
    from phantomband.runtime.settings import ClientConfig, load
    from phantomband_client.__main__ import main

    socket = load(ClientConfig, config, flags=settings).sockets / "client.sock"
    if progress:
        _watch(socket)
    set_name("pb-client")
    main(_arguments(config, settings))


def _arguments(config: Path | None, settings: Sequence[str]) -> list[str]:
    file = [] if config is None else ["--config", str(config)]
    return [*file, *(part for setting in settings for part in ("--set", setting))]


class _Quiet:
    """Services write to our standard error; there is nothing to add."""

    def changed(self, programs: object, stopping: bool) -> None:
        pass

    def lifeline(self, handle: int) -> bool:
        return True


def _watch(socket: Path) -> None:
    """A child's child prints the progress and ends, at the latest after us; it is nobody's zombie."""
    us = os.getpid()
    first = os.fork()
    if first == 0:
        if os.fork() == 0:
            try:
                _print_progress(socket, us)
            finally:
                os._exit(0)
        os._exit(0)
    os.waitpid(first, 0)


def _print_progress(socket: Path, client_pid: int) -> None:
    from phantomband_cli.control import ClientControl, NoAnswer
    from phantomband_cli.process import start_time
    from phantomband_cli.show import progress

    last: tuple[int, str] | None = None
    with ClientControl(socket) as client:
        while start_time(client_pid) is not None and (last is None or last[0] < 100):
            try:
                status = client.status(timeout=1.0)
            except NoAnswer:
                time.sleep(0.05)
                continue
            now = (status.bootstrap.percent, status.bootstrap.phase)
            if now != last:
                last = now
                progress(*now)
            time.sleep(0.05)
        if last and last[0] >= 100:
            print(f"SOCKS5 proxy at {status.socks_address}", flush=True)
