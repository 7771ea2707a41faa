"""What people see of directories and views."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

PIPE_COLUMNS = 200
ID_LETTERS = 12
"""Of a node id in tables; --json has all 52."""


def status(data: Mapping[str, Any]) -> None:
    """The lines of `directory status`."""
    clock, view = data["clock"], data["view"]
    if data["node_id"] is not None:
        role = "votes" if data["voter"] else "does not vote"
        print(f"directory    {data['of']}, {data['node_id'][:ID_LETTERS]}, {role}")
    else:
        print(f"client       {data['of']}")
    print(
        f"clock        epoch {clock['epoch']}, ends in {clock['epoch_ends'] - clock['now']:.0f} s of {clock['length']}"
    )
    if view is None:
        print("view         none yet")
    else:
        age = f"{view['age_seconds']:.0f} s old, {view['freshness']}"
        print(f"view         epoch {view['epoch']}, {age}, {view['relays']} relays, {view['bytes']:,} bytes")
        print(f"digest       {view['digest']}")
        if view["pending_change"]:
            print(f"change       {view['pending_change']} of the directories is announced")
    signed = [d["nickname"] for d in data["directories"] if d["signed"]]
    missing = [d["nickname"] for d in data["directories"] if not d["signed"]]
    count = f"{len(signed)} of {len(data['directories'])}, quorum {data['quorum']}"
    print(f"signed by    {', '.join(signed) or '-'} ({count})")
    if missing:
        print(f"not signed   {', '.join(missing)}")
    if data["node_id"] is not None:
        print(f"descriptors  {data['descriptors']}; relays measured {data['measured']}, bad {len(data['bad'])}")
        print(f"evidence     {data['evidence']} proofs of misbehaviour since the start")
        spread = data["spread"]
        print(
            f"table        {spread['table_contacts']} contacts; gossip {spread['gossip_rounds']} rounds, "
            f"{spread['gossip_bytes']:,} bytes"
        )
        if data["voter"]:
            print(
                f"reached      {spread['reached']}, not reached {spread['unreached']}, convicted {spread['convicted']}"
            )
    for name, said in data["trouble"].items():
        if said:
            print(f"{name:<12} {said}")


def members(data: Mapping[str, Any]) -> None:
    """The tables of `directory members`."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_COLUMNS)
    console.print(f"view of epoch {data['view_epoch']}, {len(data['relays'])} relays")
    table = Table("node", "nickname", "flags", "weight", "since", "transports", "family", box=None, pad_edge=False)
    for relay in data["relays"]:
        table.add_row(*_row(relay))
    console.print(table)
    signers = Table("directory", "node", "signed", box=None, pad_edge=False)
    for one in data["directories"]:
        signers.add_row(one["nickname"], one["node_id"][:ID_LETTERS], "yes" if one["signed"] else "no")
    console.print(signers)


def _row(relay: Mapping[str, Any]) -> Sequence[str]:
    return (
        relay["node_id"][:ID_LETTERS],
        relay["nickname"],
        " ".join(relay["flags"]) or "-",
        str(relay["weight"]),
        str(relay["since"] or "-"),
        " ".join(relay["transports"]),
        (relay["family"] or "-")[:ID_LETTERS],
    )
