"""`phantomband testnet up | down | status | compose`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from phantomband_cli.arguments import Directory, Json, Lane, Mix, Nodes, SocksPort, TransportName

Padding = Annotated[str, typer.Option(help="How nodes pace and pad links: off, adaptive or constant.")]
ProfileChoice = Annotated[
    str, typer.Option("--profile", help="The client's: fast, balanced or strong; nodes then mix and pad.")
]
HttpPort = Annotated[Optional[int], typer.Option(help="Port of an HTTP CONNECT proxy; 0: any free one.")]  # noqa: UP045
Exits = Annotated[int, typer.Option(help="Nodes that are exits; 0: half of them.")]
EpochSeconds = Annotated[int, typer.Option(help="Between two views, after twenty epochs of a second.")]
Work = Annotated[str, typer.Option(help="What a node's stamp costs: none, tiny, small, public or large.")]
Probation = Annotated[int, typer.Option(help="Epochs in which newcomers are neither guard nor exit.")]
Directories = Annotated[int, typer.Option(help="Nodes that vote on the view; 0: four.")]
Subnet = Annotated[str, typer.Option(help="First two numbers of the containers' addresses.")]
Out = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--out", help="Directory to write into; absent: standard output, with the usual subnet."),
]


def register(testnet: typer.Typer) -> None:
    """Adds the commands."""
    for name, command in (("up", up), ("down", down), ("status", status), ("compose", compose)):
        testnet.command(name)(command)


def up(
    nodes: Nodes = 6,
    mix: Mix = "none",
    lane: Lane = "unix",
    transport: TransportName = "tls",
    socks_port: SocksPort = 9150,
    http_port: HttpPort = None,
    exits: Exits = 0,
    directories: Directories = 0,
    padding: Padding = "off",
    profile: ProfileChoice = "fast",
    epoch_seconds: EpochSeconds = 30,
    work: Work = "none",
    probation: Probation = 0,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return once it is up, and leave it running.")] = False,
    directory: Directory = None,
    json: Json = False,
) -> None:
    """Start a test network; without --detach it ends with Ctrl-C."""
    from phantomband_cli.testnet import operate
    from phantomband_cli.testnet.options import Options

    options = Options(
        nodes,
        mix,
        lane,
        transport,
        socks_port,
        http_port,
        exits,
        directories,
        padding,
        profile,
        epoch_seconds,
        work,
        probation,
    )
    operate.up(options, directory, detach, json)


def down(
    directory: Directory = None, quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing.")] = False
) -> None:
    """Stop the test network; leaves nothing running."""
    from phantomband_cli.testnet import operate

    operate.down(directory, quiet)


def status(directory: Directory = None, json: Json = False) -> None:
    """What runs and what it does. Exit code 1 if no test network runs."""
    from phantomband_cli.testnet import operate

    raise typer.Exit(operate.status(directory, json))


def compose(
    nodes: Nodes = 6,
    mix: Mix = "none",
    lane: Lane = "unix",
    exits: Exits = 0,
    transport: TransportName = "tls",
    subnet: Subnet = "10.86",
    padding: Padding = "off",
    profile: ProfileChoice = "fast",
    directories: Directories = 0,
    out: Out = None,
) -> None:
    """Write compose.yaml: the same network as containers."""
    from phantomband_cli.compose import generate, render
    from phantomband_cli.testnet.options import Options

    options = Options(
        nodes=nodes,
        mix=mix,
        lane=lane,
        exits=exits,
        transport=transport,
        padding=padding,
        profile=profile,
        directories=directories,
    )
    if out is None:
        sys.stdout.write(render(options, subnet))
    else:
        print(f"wrote {generate(out, options, subnet)}")
