"""docs/reference/configuration.md names every key as the models have it."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from phantomband.runtime.settings import ClientConfig, NodeConfig
from pydantic import BaseModel

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("config_docs", ROOT / "tools" / "config_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _keys(inner, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_the_page_is_current(tool: ModuleType) -> None:
    page = tool.PAGE.read_text(encoding="utf-8")
    assert tool.render(page) == page, "run: python tools/config_docs.py"


@pytest.mark.parametrize("model", [NodeConfig, ClientConfig])
def test_every_key_has_a_row(tool: ModuleType, model: type[BaseModel]) -> None:
    rows = tool.table(model).splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == list(_keys(model))


def test_no_row_has_an_empty_cell(tool: ModuleType) -> None:
    for model in tool.MODELS.values():
        for row in tool.table(model).splitlines()[2:]:
            assert all(cell.strip() for cell in row.strip("|").split(" | "))


def test_marks_that_are_missing_are_an_error(tool: ModuleType) -> None:
    with pytest.raises(ValueError, match="begin node"):
        tool.render("no marks here")
