"""Writes the tables of docs/reference/configuration.md from the configuration models.

    python tools/config_docs.py            write the tables anew
    python tools/config_docs.py --check    exit code 1 if they are not current

A key's meaning is the docstring behind its field; for a field without one, `MEANINGS` has it.
"""

from __future__ import annotations

import ast
import enum
import inspect
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args, get_origin

from phantomband.runtime.settings import ClientConfig, NodeConfig
from pydantic import BaseModel
from pydantic.fields import FieldInfo

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "configuration.md"

MODELS: dict[str, type[BaseModel]] = {"node": NodeConfig, "client": ClientConfig}
"""Name of the table in the page, and what it is made from."""

MEANINGS = {
    "log.format": "How a log line is written: for people, or one JSON object a line.",
    "mixer.strategy": "How the mixer holds and reorders cells.",
    "nickname": "Name that stands in the view for people. It proves nothing.",
    "socks_host": "Address that the SOCKS5 proxy listens on. Anyone who reaches it may use it.",
    "socks_port": "Port of the SOCKS5 proxy; 0: any free one.",
    "http_host": "Address that the HTTP CONNECT proxy listens on. Anyone who reaches it may use it.",
    "hops": "Relays of a circuit. Fewer than 3 protect less.",
}
"""Where the model has no docstring behind the field."""

_BOUNDS = {"ge": "at least", "gt": "over", "le": "at most", "lt": "below"}
_LENGTHS = {"min_length": "at least", "max_length": "at most"}
_TYPES = {"int": "whole number", "float": "number", "str": "text", "bool": "true, false", "Path": "path"}


def table(model: type[BaseModel]) -> str:
    """The Markdown table of one model, sections included."""
    rows = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for key, field, meaning in _fields(model, ""):
        cells = (f"`{key}`", _values(field), _default(field), meaning)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def render(page: str) -> str:
    """The page with its tables current; all else is kept.

    Raises:
        ValueError: a table's marks are not in the page.
    """
    for name, model in MODELS.items():
        begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
        before, found, rest = page.partition(begin)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise ValueError(f"{begin.strip()} ... {end} is not in the page")
        page = f"{before}{begin}{table(model)}\n{end}{after}"
    return page


def _fields(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo, str]]:
    docs = _docstrings(model)
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _fields(inner, f"{prefix}{name}.")
            continue
        key = prefix + name
        meaning = docs.get(name) or MEANINGS.get(key)
        if meaning is None:
            raise ValueError(f"{key} has no docstring in {model.__name__} and no entry in MEANINGS")
        yield key, field, " ".join(meaning.split())


def _docstrings(model: type[BaseModel]) -> dict[str, str]:
    """The string that stands behind each field of a model's own body."""
    body = ast.parse(textwrap.dedent(inspect.getsource(model))).body[0]
    assert isinstance(body, ast.ClassDef)  # noqa: S101 - the source of a class
    found = {}
    for field, after in zip(body.body, body.body[1:], strict=False):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            found[field.target.id] = str(after.value.value)
    return found


def _values(field: FieldInfo) -> str:
    """What may stand there, with its bounds."""
    bounds = []
    for rule in field.metadata:
        bounds += [f"{said} {getattr(rule, name)}" for name, said in _BOUNDS.items() if hasattr(rule, name)]
        bounds += [f"{said} {getattr(rule, name)} characters" for name, said in _LENGTHS.items() if hasattr(rule, name)]
    return ", ".join([_type(field.annotation), *bounds])


def _type(annotation: object) -> str:
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return ", ".join(f"`{member.value}`" for member in annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "tables of " + ", ".join(annotation.model_fields)
    if get_origin(annotation) is tuple:
        return f"list of {_type(get_args(annotation)[0])}"
    choices = [each for each in get_args(annotation) if each is not type(None)]
    if choices:
        return _with_bounds(choices[0])
    return _TYPES[getattr(annotation, "__name__", "")]


def _with_bounds(annotation: object) -> str:
    """The type inside `X | None`, with the bounds that `Annotated` gives it."""
    inner = getattr(annotation, "__origin__", None)
    rules = [rule for info in getattr(annotation, "__metadata__", ()) for rule in info.metadata]
    if not rules:
        return _type(annotation)
    said = [f"{word} {getattr(r, name)}" for r in rules for name, word in _BOUNDS.items() if hasattr(r, name)]
    return ", ".join([_type(inner), *said])


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    value = field.get_default()
    if value is None:
        return "absent"
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, tuple):
        return "`[" + ", ".join(f'"{each}"' for each in value) + "]`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def main() -> int:
    old = PAGE.read_text(encoding="utf-8")
    new = render(old)
    if "--check" in sys.argv[1:]:
        return int(new != old)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
