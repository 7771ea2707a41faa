"""What is wrong with a configuration, for a person: source, key, value and remedy."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import get_args

from pydantic import BaseModel, ValidationError

from phantomband.core.errors import ConfigError


def explain(kind: type[BaseModel], error: ValidationError, sources: Mapping[str, str], default: str) -> ConfigError:
    first = error.errors()[0]
    path = [str(p) for p in first["loc"]]
    key = ".".join(path)
    source = next((sources[k] for k in (key, ".".join(path[:-1])) if k in sources), default)
    if first["type"] == "extra_forbidden":
        return ConfigError(source, key, repr(first["input"]), "this key is unknown", _suggest(kind, path))
    if first["type"] == "missing":
        return ConfigError(source, key, "(absent)", "this key is needed", f'Add a line {path[-1]} = "..."')
    return ConfigError(source, key, repr(first["input"]), first["msg"], "Use such a value, or remove the line")


def _suggest(kind: type[BaseModel], path: Sequence[str]) -> str:
    names = list(_section(kind, path[:-1]).model_fields)
    near = difflib.get_close_matches(path[-1], names, n=1)
    return f"Did you mean {near[0]}?" if near else f"Known here: {', '.join(sorted(names))}"


def _section(kind: type[BaseModel], path: Sequence[str]) -> type[BaseModel]:
    for name in path:
        if name.isdigit():
            continue
        inner = kind.model_fields[name].annotation
        inner = next((a for a in get_args(inner) if isinstance(a, type) and issubclass(a, BaseModel)), inner)
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            kind = inner
    return kind
