"""`phantomband directory card | found | propose | sign | submit` and `phantomband node renew-identity`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Optional

import typer

Node = Annotated[Path, typer.Option("--config", help="The node's configuration file.")]
Out = Annotated[Path, typer.Option("--out", help="File to write.")]
Change = Annotated[Path, typer.Argument(help="The change, as `propose` wrote it.")]
Cards = Annotated[list[Path], typer.Argument(help="The directories' cards, as `card` wrote them.")]


def register(directory: typer.Typer, node: typer.Typer) -> None:
    """Adds the commands."""
    for name, command in (
        ("card", card),
        ("found", found),
        ("propose", propose),
        ("sign", sign),
        ("submit", submit),
    ):
        directory.command(name)(command)
    node.command("renew-identity")(renew_identity)


def card(
    config: Node,
    out: Annotated[Optional[Path], typer.Option("--out", help="Absent: standard output.")] = None,  # noqa: UP045
) -> None:
    """Write what others need to know to name this node as a directory: its public keys and addresses."""
    from phantomband.runtime.settings import NodeConfig, load

    from phantomband_cli.federation import founding

    founding.save_card(founding.card(load(NodeConfig, config), founding.SYSTEM_RANDOM), out)


def found(
    cards: Cards,
    name: Annotated[str, typer.Option("--name", help="The network's name.")],
    out: Out = Path("genesis.json"),
    epoch_seconds: Annotated[int, typer.Option(help="Between two views.")] = 3600,
    startup_epochs: Annotated[int, typer.Option(help="Shorter epochs at the network's start.")] = 60,
    startup_seconds: Annotated[int, typer.Option(help="Length of these.")] = 60,
    min_relays: Annotated[int, typer.Option(help="Nodes that the first view must have.")] = 6,
    work: Annotated[str, typer.Option(help="What a stamp costs: none, tiny, small, public or large.")] = "public",
    probation_epochs: Annotated[int, typer.Option(help="So long newcomers are neither guard nor exit.")] = 24,
    notice_epochs: Annotated[int, typer.Option(help="Before a change of the directories acts.")] = 24,
) -> None:
    """Write the genesis file of a new network."""
    from phantomband_cli.federation import founding

    asked = founding.Founding(
        name, epoch_seconds, startup_epochs, startup_seconds, min_relays, work, probation_epochs, notice_epochs
    )
    genesis = founding.found(asked, cards, out, time.time())
    print(f"network {genesis.network_id.hex()}")
    print(f"{genesis.size} directories, {genesis.quorum} certify a view: {out}")


def propose(
    config: Node,
    epochs: Annotated[int, typer.Option("--epochs", help="From now until it acts; leave time for signing.")],
    remove: Annotated[Optional[list[str]], typer.Option("--remove", help="Nickname or id.")] = None,  # noqa: UP045
    add: Annotated[Optional[list[Path]], typer.Option("--add", help="A card.")] = None,  # noqa: UP045
    out: Out = Path("directories.change"),
) -> None:
    """Write a change of the directories, for their operators to sign."""
    from phantomband.runtime.settings import NodeConfig, load

    from phantomband_cli.federation import set_changes

    print(set_changes.make(load(NodeConfig, config), remove or [], add or [], epochs, out, time.time()))
    print(f"{out}: have it signed by a quorum of the directories (phantomband directory sign), then submit it")


def sign(config: Node, change: Change) -> None:
    """Sign a change with this node's identity."""
    from phantomband.runtime.settings import NodeConfig, load

    from phantomband_cli.federation import set_changes

    print(set_changes.sign(load(NodeConfig, config), change))


def submit(
    config: Node, copies: Annotated[list[Path], typer.Argument(help="The signed change, or all its copies.")]
) -> None:
    """Hand a signed change to this node's directory, which tells all others."""
    from phantomband.runtime.settings import NodeConfig, load

    from phantomband_cli.federation import set_changes

    print(set_changes.submit(load(NodeConfig, config), copies))
    print("taken: every directory will hear of it, and the next views announce it")


def renew_identity(config: Node) -> None:
    """Give a node that is stopped a new identity; it keeps its standing in the view."""
    from phantomband.runtime.settings import NodeConfig, load

    from phantomband_cli.federation import founding

    old, new = founding.renew_identity(load(NodeConfig, config), founding.SYSTEM_RANDOM)
    print(f"old  {old}\nnew  {new}")
    print("start the node again; the old key is kept in identity.previous.key: store it away from this machine")
