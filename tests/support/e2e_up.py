"""`phantomband testnet up` with other settings for some nodes.

E2E_CHANGES is JSON: {node or "exits": {section: {key: value}}}.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from phantomband_cli import main
from phantomband_cli.testnet import prepare

_CHANGES = json.loads(os.environ.pop("E2E_CHANGES", "{}"))
_write = prepare.write_toml


def _write_changed(path: Path, top: Mapping[str, object], sections: Mapping[str, Mapping[str, object]]) -> None:
    groups = [str(top.get("nickname", "client"))]
    if "exit_policy" in sections.get("relay", {}):
        groups.insert(0, "exits")
    changed = {name: dict(values) for name, values in sections.items()}
    for group in groups:
        for section, values in _CHANGES.get(group, {}).items():
            changed.setdefault(section, {}).update(values)
    _write(path, top, changed)


if __name__ == "__main__":
    prepare.write_toml = _write_changed
    main.main()
