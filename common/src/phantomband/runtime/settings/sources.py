"""Reads a configuration: a TOML file, then the environment, then flags, each stronger than the one before.

Environment: `PHANTOMBAND_` and the key in capitals, sections joined by two underscores:
`PHANTOMBAND_MIXER__STRATEGY=timed`. Flags: `--set mixer.strategy=timed`. Values are read as TOML where they can be,
else as text. Unknown keys are errors.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from phantomband.core.errors import ConfigError, UserError
from phantomband.runtime.settings.client import ClientConfig
from phantomband.runtime.settings.mistakes import explain
from phantomband.runtime.settings.node import NodeConfig

PREFIX = "PHANTOMBAND_"

C = TypeVar("C", NodeConfig, ClientConfig)


def load(
    kind: type[C], file: Path | None, environment: Mapping[str, str] | None = None, flags: Sequence[str] = ()
) -> C:
    """The configuration from all three sources.

    Args: flags: `key=value` with dotted keys.

    Raises:
        ConfigError: names source, key, value and remedy of the first value that cannot be used.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for source, key, value in _all(kind, file, os.environ if environment is None else environment, flags):
        _put(values, key, value)
        sources[key] = source
    try:
        return kind.model_validate(values)
    except ValidationError as e:
        raise explain(kind, e, sources, str(file) if file else "configuration") from None


def _all(
    kind: type[BaseModel], file: Path | None, environment: Mapping[str, str], flags: Sequence[str]
) -> Iterator[tuple[str, str, Any]]:
    if file is not None:
        yield from ((str(file), key, value) for key, value in _flatten(_read(file)))
    for name, raw in sorted(environment.items()):
        if name.startswith(PREFIX) and _known(kind, key := name[len(PREFIX) :].lower().replace("__", ".")):
            yield f"environment {name}", key, _value(raw)
    for flag in flags:
        key, equals, raw = flag.partition("=")
        if not equals:
            raise ConfigError("--set", flag, "", "there is no value", "Write it as --set key=value")
        yield "--set", key.strip(), _value(raw)


def _read(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as f:
            return tomllib.load(f)
    except OSError as e:
        raise UserError(f"{file}: cannot be read ({e.strerror}). Give a file that exists with --config") from None
    except tomllib.TOMLDecodeError as e:
        raise UserError(f"{file}: is not TOML: {e}. Mend that line") from None
    except UnicodeDecodeError as e:
        raise UserError(f"{file}: is not UTF-8 at byte {e.start}. Save it as UTF-8 text") from None


def _flatten(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict) and value:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _known(kind: type[BaseModel], key: str) -> bool:
    """Whether the environment means us: other programs' variables may share the prefix."""
    return key.split(".")[0] in kind.model_fields


def _value(raw: str) -> Any:
    try:
        return tomllib.loads(f"x = {raw}")["x"]
    except tomllib.TOMLDecodeError:
        return raw


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ConfigError("configuration", key, "", f"{parent} is a value, not a section", "Give it once")
    values[last] = value
