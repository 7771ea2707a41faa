"""The `phantomband` command. Nothing heavy is imported before the command that needs it runs."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, Optional, cast

import typer

from phantomband_cli.arguments import Directory, Json, Lane, Mix, Nodes, SocksPort, TransportName
from phantomband_cli.federation import commands as federation_commands
from phantomband_cli.inspect import commands as inspect_commands
from phantomband_cli.testnet import commands as testnet_commands

if TYPE_CHECKING:
    from phantomband_cli.config_check import Kind

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Onion routing with mixing.",
)
testnet_app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="A whole network on this machine.")
node_app = typer.Typer(
    rich_markup_mode=None,
    invoke_without_command=True,
    help="Run a node: its four services, restarted if they die.",
)
config_app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Look at configuration files.")
app.add_typer(testnet_app, name="testnet")
app.add_typer(node_app, name="node")
app.add_typer(config_app, name="config")
directory_app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Directories and the view they certify.")
bridge_app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Bridges: one node to begin at.")
app.add_typer(directory_app, name="directory")
app.add_typer(bridge_app, name="bridge")
testnet_commands.register(testnet_app)
inspect_commands.register(directory_app, bridge_app)
federation_commands.register(directory_app, node_app)

Settings = Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE, stronger than file and environment.")]
ConfigFile = Annotated[Optional[Path], typer.Option("--config", help="Configuration file (TOML).")]  # noqa: UP045
Plugins = Annotated[
    list[str] | None, typer.Option("--pt", help='"NAME exec PROGRAM": a transport program; may be repeated.')
]
RunDir = Annotated[Optional[Path], typer.Option("--run-dir", help="Where the client's control socket is.")]  # noqa: UP045


@app.command("client")
def client(
    config: ConfigFile = None,
    settings: Settings = None,
    quiet: Annotated[bool, typer.Option("--quiet")] = False,
    bridge: Annotated[list[str] | None, typer.Option("--bridge", help="A bridge line; may be repeated.")] = None,
    data_dir: Annotated[Optional[Path], typer.Option("--data-dir", help="Where the client keeps its files.")] = None,  # noqa: UP045
    pt: Plugins = None,
) -> None:
    """Run the client: a SOCKS5 proxy into the network. A data directory with bridges is enough."""
    from phantomband_cli.node import client_settings, plugin_settings, run_client

    chosen = client_settings(bridge or [], data_dir, plugin_settings("pluggable", pt or [], settings or []))
    run_client(config if data_dir else _needed(config), chosen, progress=not quiet)


@node_app.callback()
def node(context: typer.Context, config: ConfigFile = None, settings: Settings = None, pt: Plugins = None) -> None:
    """Run a node: its four services, restarted if they die."""
    if context.invoked_subcommand is None:
        from phantomband_cli.node import plugin_settings, run_node

        chosen = plugin_settings("gateway.pluggable", pt or [], settings or [])
        raise typer.Exit(run_node(_needed(config), chosen))


@node_app.command("init")
def node_init(
    genesis: Annotated[Path, typer.Option(help="Genesis file of the network to join.")],
    config: Annotated[Path, typer.Option(help="File to write.")] = Path("node.toml"),
    nickname: Annotated[str, typer.Option(help="Name that others see.")] = "unnamed",
    data_dir: Annotated[Path, typer.Option(help="Where keys and views are kept.")] = Path("phantomband-node"),
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 9001,
    founding: Annotated[bool, typer.Option("--founding", help="The genesis file is still to come.")] = False,
) -> None:
    """Write a configuration for a new node."""
    from phantomband_cli.node import write_node_config

    write_node_config(config, nickname, genesis, data_dir, port, founding=founding)
    print(f"wrote {config}. Start the node with: phantomband node --config {config}")


@config_app.command("check")
def config_check(
    file: Annotated[Path, typer.Argument(help="Configuration file (TOML).")],
    kind: Annotated[Optional[str], typer.Option(help="node or client; guessed if absent.")] = None,  # noqa: UP045
) -> None:
    """Say whether a configuration can be used, and if not: which key, which value, what to do."""
    from phantomband.core.errors import UserError

    from phantomband_cli.config_check import check

    if kind not in (None, "node", "client"):
        raise UserError(f"--kind {kind}: unknown. Use node or client")
    print(f"{file}: good for a {check(file, cast('Kind | None', kind))}")


@app.command("status")
def status(config: ConfigFile = None, run_dir: RunDir = None, directory: Directory = None, json: Json = False) -> None:
    """How the client is."""
    from phantomband_cli.ask import show_status

    show_status(config, run_dir, directory, json)


@app.command("circuits")
def circuits(
    config: ConfigFile = None, run_dir: RunDir = None, directory: Directory = None, json: Json = False
) -> None:
    """The client's circuits and their paths."""
    from phantomband_cli.ask import show_circuits

    show_circuits(config, run_dir, directory, json)


@app.command("newnym")
def newnym(config: ConfigFile = None, run_dir: RunDir = None, directory: Directory = None, json: Json = False) -> None:
    """Use new circuits for all new streams."""
    from phantomband_cli.ask import new_identity

    new_identity(config, run_dir, directory, json)


@app.command("transports")
def transports(
    config: ConfigFile = None, run_dir: RunDir = None, directory: Directory = None, json: Json = False
) -> None:
    """How the client reaches its guard: what is in use, what worked on this network, what was tried."""
    from phantomband_cli.ask import show_transports

    show_transports(config, run_dir, directory, json)


@app.command("profile")
def profile(json: Json = False) -> None:
    """The profiles fast, balanced and strong: what each does and costs."""
    from phantomband_cli.profiles import show_profiles

    show_profiles(json)


@app.command("fingerprint")
def fingerprint(
    transport: Annotated[str, typer.Option("--transport", help="What to look at: websocket or tls.")] = "websocket",
    persona: Annotated[Optional[str], typer.Option(help="The browser to look like; absent: any.")] = None,  # noqa: UP045
    json: Json = False,
) -> None:
    """What a network sees of a client's TLS, and a server of its request: JA3, JA4, headers, from bytes really sent."""
    from phantomband_cli.fingerprint import show_fingerprint

    show_fingerprint(transport, persona, json)


@app.command("demo")
def demo(
    once: Annotated[bool, typer.Option("--once", help="Stop after the fetch.")] = False,
    nodes: Nodes = 6,
    mix: Mix = "none",
    lane: Lane = "unix",
    transport: TransportName = "tls",
    socks_port: SocksPort = 9150,
) -> None:
    """Start a network, fetch a page and a 64 MB file through three hops, and show what happened."""
    from phantomband_cli.demo.run import run_demo
    from phantomband_cli.testnet.options import Options

    raise typer.Exit(run_demo(Options(nodes, mix, lane, transport, socks_port), once))


@app.command("pt")
def pt() -> None:
    """Our transports as a pluggable-transport program: Tor starts it, not you."""
    from phantomband_cli.pt.command import run_pt

    raise typer.Exit(run_pt())


@app.command("sim")
def sim(
    flows: Annotated[int, typer.Option(min=2, help="Clients; each browses over a circuit of its own.")] = 40,
    seconds: Annotated[float, typer.Option(min=1, help="Virtual seconds that the adversary watches.")] = 60.0,
    nodes: Annotated[int, typer.Option(min=3, help="Nodes; all are exits.")] = 6,
    mix: Annotated[str, typer.Option(help="Mixing strategy; `none` is always measured too.")] = "timed",
    interval: Annotated[list[float] | None, typer.Option(help="Seconds; may be repeated. [default: 0.05]")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each strategy, with the seeds 1, 2, ...")] = 5,
    json: Annotated[Optional[Path], typer.Option("--json", help="File for the results.")] = None,  # noqa: UP045
    model: Annotated[
        str, typer.Option(help="exact: the real machines; fast: counts of cells, for thousands.")
    ] = "exact",
    profile: Annotated[Optional[str], typer.Option(help="fast, balanced or strong; with --model fast.")] = None,  # noqa: UP045
    loss: Annotated[float, typer.Option(help="Share of what links lose the first time.")] = 0.0,
    spread: Annotated[float, typer.Option(help="Share by which delays of links differ from their kind's.")] = 0.0,
) -> None:
    """Simulate flows and an adversary who watches both ends: a table and, last, one JSON line."""
    from phantomband_cli.sim.network import Scenario
    from phantomband_cli.sim.plan import Plan
    from phantomband_cli.sim.run import run_sim

    scenario = Scenario.of(flows, seconds, nodes, loss, spread)
    run_sim(Plan(scenario, mix, tuple(interval or [0.05]), tuple(range(1, seeds + 1)), model, profile), json)


def _needed(config: Path | None) -> Path:
    from phantomband.core.errors import UserError

    if config is None:
        raise UserError("no configuration. Give a file with --config; `phantomband node init` writes one for a node")
    return config


def _ended(number: int, frame: Any) -> NoReturn:
    """SIGTERM unwinds the stack, so that everything is cleaned up."""
    raise SystemExit(128 + number)


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point: a user's mistake is one or two lines on standard error and exit code 2."""
    from phantomband.core.errors import UserError
    from phantomband.runtime.standard_files import open_standard_files

    open_standard_files()
    signal.signal(signal.SIGTERM, _ended)
    try:
        app(args=list(argv) if argv is not None else None)
    except UserError as e:
        print(f"error: {e}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
