"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

Json = Annotated[bool, typer.Option("--json", help="One JSON value, for scripts.")]
Directory = Annotated[Optional[Path], typer.Option("--dir", help="Where the test network keeps its files.")]  # noqa: UP045

Nodes = Annotated[int, typer.Option(help="Nodes; each is four processes.")]
Mix = Annotated[str, typer.Option(help="Mixing strategy: none, threshold, timed, pool, poisson or slots.")]
Lane = Annotated[str, typer.Option(help="How cells move between the services of a node: unix or grpc.")]
TransportName = Annotated[
    str,
    typer.Option("--transport", help="How to the guard: auto, tls, quic, websocket, obfs4, doh or tcp."),
]
SocksPort = Annotated[int, typer.Option(help="Port of the SOCKS5 proxy; 0: any free one.")]
