"""`phantomband testnet up` with other settings for some nodes.

E2E_CHANGES is JSON: {node, "exits" or "client": {section: {key: value}}}; section "" is the top of the file.
E2E_TAP is the plan of a tap (e2e_tap.py): all gateways listen for tcp behind it, and others dial the tap.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from phantomband_cli import main
from phantomband_cli.testnet import prepare

_CHANGES = json.loads(os.environ.pop("E2E_CHANGES", "{}"))
_TAP = os.environ.pop("E2E_TAP", "")
_write = prepare.write_toml
_free_ports = prepare.free_ports
_spare: list[int] = []


def _write_changed(path: Path, top: Mapping[str, object], sections: Mapping[str, Mapping[str, object]]) -> None:
    groups = [str(top.get("nickname", "client"))]
    if "exit_policy" in sections.get("relay", {}):
        groups.insert(0, "exits")
    changed = {"": dict(top), **{name: dict(values) for name, values in sections.items()}}
    for group in groups:
        for section, values in _CHANGES.get(group, {}).items():
            changed.setdefault(section, {}).update(values)
    if _TAP and "listen" in changed.get("gateway", {}):
        _behind_the_tap(changed["gateway"])
    _write(path, changed.pop(""), changed)


def _ports_and_spares(transports: Sequence[str]) -> list[int]:
    """As many ports for tcp beside those that are asked for, all different."""
    ports = _free_ports([*transports, *["tcp"] * len(transports)])
    _spare.extend(ports[len(transports) :])
    return ports[: len(transports)]


def _behind_the_tap(gateway: dict[str, object]) -> None:
    addresses: list[str] = gateway["listen"]  # type: ignore[assignment]
    gateway["advertise"] = addresses
    gateway["listen"] = [_tapped(address) if address.startswith("tcp:") else address for address in addresses]


def _tapped(address: str) -> str:
    host, _, port = address.rpartition(":")
    behind = _spare.pop()
    with open(_TAP, "a") as plan:
        plan.write(f"{port} {behind}\n")
    return f"{host}:{behind}"


if __name__ == "__main__":
    prepare.write_toml = _write_changed
    if _TAP:
        prepare.free_ports = _ports_and_spares
    main.main()
