"""The genesis file and the epoch clock."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phantomband.core.errors import UserError
from phantomband.core.netdir.epoch import EpochClock
from phantomband.core.netdir.genesis_file import genesis_text, load_genesis, parse_genesis, save_genesis


def test_file_round_trip(world: Any, tmp_path: Path) -> None:
    genesis = world.genesis(3)
    save_genesis(genesis, tmp_path / "genesis.json")
    assert load_genesis(tmp_path / "genesis.json") == genesis
    assert (genesis.size, genesis.quorum, genesis.majority) == (3, 3, 2)


@pytest.mark.parametrize(("n", "quorum", "majority"), [(1, 1, 1), (4, 3, 3), (7, 5, 4), (9, 7, 5)])
def test_quorum(world: Any, n: int, quorum: int, majority: int) -> None:
    genesis = world.genesis(n)
    assert (genesis.quorum, genesis.majority) == (quorum, majority)


def test_every_field_is_in_the_network_id(world: Any) -> None:
    ids = {
        world.genesis(n, test_network=t, min_relays=m).network_id for n in (1, 2) for t in (True, False) for m in (1, 2)
    }
    assert len(ids) == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("network"), "network: is missing"),
        (lambda d: d.update(network_id="00"), "network_id: does not match"),
        (lambda d: d.update(test_network=1), "test_network: must be true or false"),
        (lambda d: d.update(min_relays=True), "min_relays: must be a whole number"),
        (lambda d: d.update(colour="red"), "colour: is not a known field"),
        (lambda d: d.update(directories=[]), "directories must name 1 to 32"),
        (lambda d: d["epochs"].update(epoch_seconds=0), "epochs.epoch_seconds must be"),
        (lambda d: d["epochs"].pop("start"), "epochs.start: is missing"),
        (lambda d: d["directories"][1].update(identity="AA=="), r"directories\[1\]: identity has 1984 bytes"),
        (lambda d: d["directories"][1].update(link_key="?"), r"directories\[1\].link_key: must be base64"),
        (lambda d: d["directories"][0].update(addresses=["x"]), r"directories\[0\].addresses: 'x'"),
        (lambda d: d.update(directories=[3]), r"directories\[0\]: must be a JSON object"),
        (lambda d: d.update(directories=[d["directories"][0]] * 2), "one identity twice"),
    ],
)
def test_errors_name_file_and_field(world: Any, change: Any, message: str) -> None:
    data = json.loads(genesis_text(world.genesis(2)))
    change(data)
    with pytest.raises(UserError, match=message) as caught:
        parse_genesis(json.dumps(data).encode(), "my.json")
    assert str(caught.value).startswith("my.json: ")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the genesis file"):
        load_genesis(tmp_path / "none.json")


@given(st.binary(max_size=80))
def test_any_bytes_are_a_user_error(raw: bytes) -> None:
    with pytest.raises(UserError):
        parse_genesis(raw, "x")


@given(st.integers(0, 5), st.integers(1, 5), st.integers(1, 50), st.floats(0, 1000))
def test_epochs_follow_one_another(startup: int, short: int, long: int, after: float) -> None:
    clock = EpochClock(1000, startup, short, long)
    epoch = clock.epoch_at(1000 + after)
    assert clock.start(epoch) <= 1000 + after < clock.end(epoch)
    assert clock.end(epoch) == clock.start(epoch + 1)
    assert clock.length(epoch) == (short if epoch <= startup else long)
    assert clock.start(epoch) < clock.cutoff(epoch) < clock.echo_deadline(epoch) < clock.sign_deadline(epoch)
    assert clock.sign_deadline(epoch) < clock.end(epoch) < clock.valid_until(epoch) < clock.stale_until(epoch)


def test_before_the_start() -> None:
    assert EpochClock(1000, 1, 1, 1).epoch_at(999.9) == 0
