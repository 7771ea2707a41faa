"""Options of a test network."""

from __future__ import annotations

import pytest
from phantomband.core.errors import UserError
from phantomband.runtime.settings import MIX_NAMES, PADDING_NAMES
from phantomband_cli.testnet.options import Options


def test_defaults() -> None:
    options = Options()
    assert options.names == ("n1", "n2", "n3", "n4", "n5", "n6")
    assert [options.is_exit(i) for i in range(6)] == [False] * 3 + [True] * 3
    assert [options.is_directory(i) for i in range(6)] == [True] * 4 + [False] * 2


def test_small_networks_have_fewer_directories_and_an_exit() -> None:
    options = Options(nodes=3)
    assert (options.exits, options.directories) == (1, 3)


@pytest.mark.parametrize("mix", MIX_NAMES)
def test_every_strategy_can_be_asked_for(mix: str) -> None:
    assert Options(mix=mix).mix == mix


def test_an_unknown_strategy_is_told_the_known_ones() -> None:
    with pytest.raises(UserError, match="none, threshold, timed, pool, poisson, slots"):
        Options(mix="chaum")


@pytest.mark.parametrize("padding", PADDING_NAMES)
def test_every_padding_can_be_asked_for(padding: str) -> None:
    assert Options(padding=padding).padding == padding


def test_json_round_trip() -> None:
    options = Options(nodes=9, mix="timed", http_port=0, exits=2, padding="adaptive")
    assert Options.from_json(options.to_json()) == options


@pytest.mark.parametrize(
    "values",
    [
        {"nodes": 2},
        {"mix": "x"},
        {"lane": ""},
        {"transport": "udp"},
        {"exits": 7},
        {"directories": -1},
        {"padding": ""},
    ],
)
def test_what_cannot_work_is_refused(values: dict[str, int | str]) -> None:
    with pytest.raises(UserError, match=f"--{next(iter(values))}"):
        Options(**values)  # type: ignore[arg-type]
