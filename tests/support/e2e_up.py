"""`phantomband testnet up` with other settings for some nodes.

E2E_CHANGES is JSON: {node, "exits" or "client": {section: {key: value}}}; section "" is the top of the file.
E2E_LIES is the plan of directories that lie (e2e_liars.py): {node: lie}; nodes that it does not name never lie.
E2E_TAP is the plan of a tap (e2e_tap.py): all gateways listen for tcp behind it, and others dial the tap.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from phantomband_cli import main, services
from phantomband_cli.testnet import prepare

_CHANGES = json.loads(os.environ.pop("E2E_CHANGES", "{}"))
_LIES = os.environ.pop("E2E_LIES", "")
_TAP = os.environ.pop("E2E_TAP", "")
_main_of = services._main_of
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


def _main_of_a_liar(service: str, arguments: Sequence[str]) -> Callable[[], None]:
    main_of_service, config = _main_of(service, arguments), Path(arguments[-1])
    name = config.parent.name
    if service != "directory" or name not in json.loads(Path(_LIES).read_text()):
        return main_of_service

    def run() -> None:
        from e2e_liars import lying
        from phantomband_directory import __main__ as directory

        directory.GrpcPeerNetwork = lying(name, config, Path(_LIES))  # type: ignore[misc]
        main_of_service()

    return run


if __name__ == "__main__":
    if _LIES:
        services._main_of = _main_of_a_liar
    prepare.write_toml = _write_changed
    if _TAP:
        prepare.free_ports = _ports_and_spares
    main.main()
