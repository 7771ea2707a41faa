"""Reads a configuration: a TOML file, then the environment, then flags, each stronger than the one before.

Environment: `PHANTOMBAND_` and the key in capitals, sections joined by two underscores:
`PHANTOMBAND_MIXER__STRATEGY=timed`. Flags: `--set mixer.strategy=timed`. Values are read as TOML where they can be,
else as text. Unknown keys are errors.

Kubernetes and Docker set variables of their own for each service: one named `phantomband-socks` gives
`PHANTOMBAND_SOCKS_PORT=tcp://10.96.0.7:9150`. Those are not meant for us: they are left aside, with a warning.
"""

from __future__ import annotations

import codecs
import os
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from phantomband.core.errors import ConfigError, UserError
from phantomband.runtime.settings.client import ClientConfig
from phantomband.runtime.settings.mistakes import explain
from phantomband.runtime.settings.node import NodeConfig

PREFIX = "PHANTOMBAND_"

SERVICE_LINK = re.compile(r"(?:tcp|udp|sctp)://[^/]*:[0-9]+")
"""Value of a service link (Kubernetes: "Discovering services"; Docker's legacy links). No setting that ends in `_port`
is of this form."""

C = TypeVar("C", NodeConfig, ClientConfig)


def load(
    kind: type[C],
    file: Path | None,
    environment: Mapping[str, str] | None = None,
    flags: Sequence[str] = (),
    warn: Callable[[str], None] = lambda said: print(f"warning: {said}", file=sys.stderr),
) -> C:
    """The configuration from all three sources.

    Args:
        flags: `key=value` with dotted keys.
        warn: told of what is left aside.

    Raises:
        ConfigError: names source, key, value and remedy of the first value that cannot be used.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for source, key, value in _all(kind, file, os.environ if environment is None else environment, flags, warn):
        _put(values, key, value)
        sources[key] = source
    try:
        return kind.model_validate(values)
    except ValidationError as e:
        raise explain(kind, e, sources, str(file) if file else "configuration") from None


def _all(
    kind: type[BaseModel],
    file: Path | None,
    environment: Mapping[str, str],
    flags: Sequence[str],
    warn: Callable[[str], None],
) -> Iterator[tuple[str, str, Any]]:
    if file is not None:
        yield from ((str(file), key, value) for key, value in _flatten(read(file)))
    for name, raw in sorted(environment.items()):
        if name.startswith(PREFIX) and _known(kind, key := name[len(PREFIX) :].lower().replace("__", ".")):
            if name.endswith("_PORT") and SERVICE_LINK.fullmatch(raw):
                warn(f"{name} is Kubernetes' or Docker's variable for a service of that name, and is not used as a "
                     "setting. Give the service another name, or set enableServiceLinks: false")  # fmt: skip
                continue
            yield f"environment {name}", key, _value(f"environment {name}", key, raw)
    for flag in flags:
        key, equals, raw = flag.partition("=")
        if not equals:
            raise ConfigError("--set", flag, "", "there is no value", "Write it as --set key=value")
        yield "--set", key.strip(), _value("--set", key.strip(), raw)


def read(file: Path) -> dict[str, Any]:
    """The keys of a TOML file. Bytes that are no UTF-8 are kept (PEP 383), since paths may have them.

    Raises:
        UserError: it cannot be read.
    """
    try:
        raw = file.read_bytes().removeprefix(codecs.BOM_UTF8)
        return tomllib.loads(raw.decode("utf-8", "surrogateescape"))
    except OSError as e:
        raise UserError(f"{file}: cannot be read ({e.strerror}). Give a file that exists with --config") from None
    except tomllib.TOMLDecodeError as e:
        raise UserError(f"{file}: is not TOML: {e}. Mend that line") from None
    except RecursionError:
        raise UserError(f"{file}: is nested too deeply for a configuration. Mend it") from None


def _flatten(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict) and value:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _known(kind: type[BaseModel], key: str) -> bool:
    """Whether the environment means us: other programs' variables may share the prefix."""
    return key.split(".")[0] in kind.model_fields


def _value(source: str, key: str, raw: str) -> Any:
    """Raises: ConfigError: it begins as a TOML text and is none. As plain text it would be another value, quotes and
    all: a directory of that name under the current one."""
    try:
        return tomllib.loads(f"x = {raw}")["x"]
    except (tomllib.TOMLDecodeError, RecursionError):
        if raw.lstrip().startswith(('"', "'")):
            raise ConfigError(source, key, raw, "this is no TOML text", "Mend or leave out the quotes") from None
        return raw


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ConfigError("configuration", key, "", f"{parent} is a value, not a section", "Give it once")
    values[last] = value
