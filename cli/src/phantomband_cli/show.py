"""What people see: tables and progress lines. Scripts use --json instead."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

PIPE_COLUMNS = 200


def testnet(status: Mapping[str, Any]) -> None:
    """The table of `testnet status`."""
    console = _console()
    table = Table("node", "role", "service", "pid", "state", "restarts", "doing", box=None, pad_edge=False)
    for node in status["nodes"]:
        role = ", ".join(word for word in ("directory", "exit") if node[word]) or "-"
        for i, service in enumerate(node["services"]):
            table.add_row(*((node["name"], role) if i == 0 else ("", "")), *_service_row(service))
    client = status["client"]
    if client:
        table.add_row("client", "", *_service_row(client))
    console.print(table)
    if client and client["bootstrap"]:
        bootstrap = client["bootstrap"]
        console.print(f"client: {bootstrap['percent']}% {bootstrap['phase']}; SOCKS5 at {status['socks']}")


def _console() -> Console:
    """As wide as the terminal; in a file or pipe wide enough that no row wraps."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_COLUMNS)


def _service_row(service: Mapping[str, Any]) -> tuple[str, ...]:
    values = service["status"] or {}
    doing = ", ".join(f"{values[name]:g} {said}" for name, said in _SHOWN.items() if name in values)
    pid = str(service["pid"]) if service["pid"] else "-"
    return (service["service"], pid, service["state"], str(service["restarts"]), doing)


_SHOWN = {
    "view_nodes": "nodes known",
    "links": "links",
    "circuits": "circuits",
    "exit_streams": "exit streams",
    "held": "cells held",
    "streams": "streams",
}
"""Status values in the table, in this order, and what they are called there; --json has all."""


def client(status: Mapping[str, Any]) -> None:
    """The lines of `status`."""
    bootstrap = status["bootstrap"]
    print(f"bootstrap   {bootstrap['percent']}% {bootstrap['phase']}")
    print(f"SOCKS5      {status['socks_address']}")
    if status["http_address"]:
        print(f"HTTP proxy  {status['http_address']}")
    print(f"transport   {status['transport']}")
    print(f"profile     {status['profile']}, {status['padding_cells']} dummies sent")
    print(f"loops       {status['loops']['returned']} came back, {status['loops']['lost']} lost")
    print(f"circuits    {status['circuits_open']} open, {status['streams_open']} streams")
    print(f"traffic     {status['bytes_in'] / 1e6:.1f} MB in, {status['bytes_out'] / 1e6:.1f} MB out")
    age = f"{status['view_freshness']}, {status['view_age_epochs']} epochs old"
    print(f"view        epoch {status['view_epoch']}, {status['view_nodes']} nodes, {age}")
    if status["trouble"]:
        print(f"trouble     {status['trouble']}")


def circuits(all_circuits: Sequence[Mapping[str, Any]]) -> None:
    """The table of `circuits`."""
    table = Table(
        "id", "profile", "state", "path", "streams", "age s", "round trip ms", "window", box=None, pad_edge=False
    )
    for c in all_circuits:
        table.add_row(
            str(c["id"]), c["profile"], c["state"], path(c["hops"]), str(c["streams"]), f"{c['age_seconds']:.0f}",
            f"{c['round_trip_seconds'] * 1e3:.1f}", str(c["window_cells"]),
        )  # fmt: skip
    _console().print(table)


def transports(found: Mapping[str, Any], now: float) -> None:
    """The tables of `transports`."""
    console = _console()
    table = Table("transport", "state", "streams", "connected in", "worked", "failed", box=None, pad_edge=False)
    for t in found["transports"]:
        seconds = t["connect_seconds"]
        table.add_row(
            t["name"], t["state"], str(t["streams"]) if t["links"] else "", f"{seconds:.2f} s" if seconds else "",
            _ago(t["worked"], now), _ago(t["failed"], now),
        )  # fmt: skip
    console.print(table)
    if found["bridges"]:
        console.print(f"The client begins at {found['bridges']} bridges, so only their transports are used.")
    for event in found["events"]:
        console.print(f"{_ago(event['at'], now):>12}  {event['transport']}: {event['what']}", markup=False)


def _ago(at: float | None, now: float) -> str:
    """Such as `5 min ago`; empty for never."""
    if at is None:
        return ""
    seconds = max(0.0, now - at)
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def profiles(described: Sequence[Mapping[str, Any]]) -> None:
    """The table of `profile`."""
    table = Table(
        "profile", "link", "each circuit", "relays must", "most KB/s", "idle GB a day", box=None, pad_edge=False
    )
    for p in described:
        most = p["most_bytes_a_second"]
        needs = p["relays_must"]
        delay = f"mix {needs['mean_delay_seconds'] * 1e3:g} ms, pad {needs['padding']}"
        table.add_row(
            p["name"], p["link"], f"{p['pace_cells_a_second']} cells/s" if p["pace_cells_a_second"] else "as it comes",
            delay if needs["mean_delay_seconds"] else "-", f"{most / 1e3:.0f}" if most else "the network's",
            f"{p['idle_bytes_a_day'] / 1e9:.1f}",
        )  # fmt: skip
    console = _console()
    console.print(table)
    for p in described:
        console.print(f"{p['name']:<9} {p['summary']}")
    console.print(
        "Choose with `profile` in the client's configuration, a port of its own (strong_port), or a SOCKS user"
    )
    console.print("such as alice+strong. What each gives, with figures: docs/explanation/profiles.md")


def path(hops: Sequence[Mapping[str, str]]) -> str:
    """Names of the hops in order."""
    return " -> ".join(hop["nickname"] or hop["node_id"][:8] for hop in hops)


def progress(percent: int, phase: str) -> None:
    """One line of a bootstrap."""
    print(f"  {percent:3d}%  {phase}", flush=True)
