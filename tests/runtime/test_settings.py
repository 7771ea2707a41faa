"""Configuration: file, environment, flags; every error names source, key, value and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phantomband.core.errors import ConfigError, UserError
from phantomband.core.netdir.descriptor import MAX_MIX_BYTES, MAX_PADDING_BYTES
from phantomband.core.shaping import Policy
from phantomband.runtime.arguments import target
from phantomband.runtime.lane.base import Driver
from phantomband.runtime.settings import MIX_NAMES, ClientConfig, GatewaySection, MixerSection, NodeConfig, load

NEEDED = 'genesis = "genesis.json"\ndata_dir = "data"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(NEEDED)
    return path


def failure(
    file: Path, text: str = "", environment: dict[str, str] | None = None, flags: tuple[str, ...] = ()
) -> ConfigError:
    file.write_text(NEEDED + text)
    with pytest.raises(ConfigError) as caught:
        load(NodeConfig, file, environment or {}, flags)
    return caught.value


def test_the_defaults_hold(file: Path) -> None:
    config = load(NodeConfig, file, {})
    assert config.lane is Driver.UNIX
    assert config.mixer.strategy == "none"
    assert config.relay.exit_policy == ()
    assert config.sockets == Path("data/run")
    client = load(ClientConfig, file, {})
    assert (client.socks_host, client.socks_port, client.http_port, client.hops) == (
        "127.0.0.1",
        9150,
        None,
        3,
    )
    assert client.sockets == Path("data/run")


def test_flags_are_stronger_than_the_environment_and_it_is_stronger_than_the_file(file: Path) -> None:
    file.write_text(NEEDED + "[mixer]\ninterval = 0.1\nmax_cells = 1000\n[log]\nlevel = 'error'\n")
    environment = {"PHANTOMBAND_MIXER__INTERVAL": "0.2", "PHANTOMBAND_MIXER__MAX_CELLS": "2000"}
    config = load(NodeConfig, file, environment, ["mixer.interval=0.3"])
    assert (config.mixer.interval, config.mixer.max_cells, config.log.level) == (0.3, 2000, "error")


def test_everything_may_come_from_the_environment_alone() -> None:
    environment = {
        "PHANTOMBAND_GENESIS": "g.json", "PHANTOMBAND_DATA_DIR": "/var/lib/x", "PHANTOMBAND_LANE": "grpc",
        "PHANTOMBAND_RELAY__EXIT_POLICY": '["accept *:443"]', "PHANTOMBAND_GATEWAY__MAX_LINKS": "7",
    }  # fmt: skip
    config = load(NodeConfig, None, environment)
    assert config.lane is Driver.GRPC
    assert config.relay.exit_policy == ("accept *:443",)
    assert config.gateway.max_links == 7


def test_text_needs_no_quotes_where_it_is_not_toml(file: Path) -> None:
    config = load(NodeConfig, file, {}, ["nickname=alice", "data_dir=/srv/x y"])
    assert (config.nickname, config.data_dir) == ("alice", Path("/srv/x y"))
    assert load(NodeConfig, file, {}, ['nickname="bob"']).nickname == "bob"


@pytest.mark.parametrize(("given", "nickname"), [("123", "123"), ("7", "7"), ("-5", "-5")])
def test_a_number_is_text_where_text_is_wanted(file: Path, given: str, nickname: str) -> None:
    assert load(NodeConfig, file, {}, [f"nickname={given}"]).nickname == nickname
    assert load(NodeConfig, file, {"PHANTOMBAND_NICKNAME": given}).nickname == nickname
    file.write_text(NEEDED + f"nickname = {given}\n")
    assert load(NodeConfig, file, {}).nickname == nickname


@pytest.mark.parametrize("name", ["gateway", "relay", "mixer", "directory"])
def test_services_are_reached_over_their_unix_sockets_only(file: Path, name: str) -> None:
    config = load(NodeConfig, file, {}, ["run_dir=/run/x"])
    assert target(config, name) == f"unix:/run/x/{name}.sock"


def test_a_value_may_hold_an_equals_sign(file: Path) -> None:
    assert load(NodeConfig, file, {}, ["data_dir=a=b"]).data_dir == Path("a=b")


def test_other_programs_variables_are_left_alone(file: Path) -> None:
    load(
        NodeConfig,
        file,
        {"PHANTOMBAND_TOR_BIN": "x", "PHANTOMBAND_": "x", "PATH": "/bin", "phantomband_lane": "x"},
    )


def test_configuration_is_frozen(file: Path) -> None:
    config = load(NodeConfig, file, {})
    with pytest.raises(ValueError, match="frozen"):
        config.nickname = "other"  # type: ignore[misc]


# ---- errors ------------------------------------------------------------------------------------------------


def test_an_unknown_key_is_an_error_with_a_suggestion(file: Path) -> None:
    error = failure(file, "[mixer]\nstrategi = 'none'\n")
    assert (error.source, error.key, error.value) == (str(file), "mixer.strategi", "'none'")
    assert error.remedy == "Did you mean strategy?"
    assert str(file) in str(error)


def test_an_unknown_key_without_a_near_one_lists_the_known(file: Path) -> None:
    assert "max_links" in failure(file, "[gateway]\nqqqqqqqq = 1\n").remedy


@pytest.mark.parametrize(
    "text",
    [
        "[mixxer]\n",
        "[mixxer]\na = 1\n",
        "[mixer.deeper]\n",
        "mixxer = {}\n",
        "[[mixxer]]\n",
        "[services]\n",
        "[services]\nrelay = 'relay:7000'\n",
        "[tls]\nca = 'ca.pem'\n",
    ],
)
def test_an_unknown_section_is_an_error_even_when_empty(file: Path, text: str) -> None:
    assert "unknown" in failure(file, text).problem


def test_an_empty_known_section_is_none(file: Path) -> None:
    file.write_text(NEEDED + "[mixer]\n[log]\n[relay]\n")
    assert load(NodeConfig, file, {"PHANTOMBAND_MIXER__STRATEGY": "timed"}).mixer.strategy == "timed"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[mixer]\nstrategy = 'fancy'\n", "mixer.strategy"),
        ("[mixer]\ninterval = 0\n", "mixer.interval"),
        ("[mixer]\ninterval = 61\n", "mixer.interval"),
        ("[mixer]\nmax_cells = 255\n", "mixer.max_cells"),
        ("[mixer]\nmax_cells = 300\nthreshold = 300\n", "mixer.max_cells"),
        ("[mixer]\npool_minimum = 131072\n", "mixer.max_cells"),
        ("[mixer]\nthreshold = 1\n", "mixer.threshold"),
        ("[mixer]\npool_fraction = 0\n", "mixer.pool_fraction"),
        ("[mixer]\npool_fraction = 1.1\n", "mixer.pool_fraction"),
        ("[mixer]\nmean_delay = inf\n", "mixer.mean_delay"),
        ("[mixer]\nslot = 0.0001\n", "mixer.slot"),
        ("[gateway]\nmax_links = 0\n", "gateway.max_links"),
        ("[gateway]\npadding = 'much'\n", "gateway.padding"),
        ("[gateway]\npadding_rate = 32769\n", "gateway.padding_rate"),
        ("[gateway]\npadding = 'adaptive'\npadding_rate = 9\n", "gateway.padding_rate"),
        ("[gateway]\npadding_schedule = 'late'\n", "gateway.padding_schedule"),
        ("[gateway]\npadding_max_rate = -1\n", "gateway.padding_max_rate"),
        ("[relay]\nconnect_timeout = -1\n", "relay.connect_timeout"),
        ("[relay]\nexit_policy = ['accept *:80', true]\n", "relay.exit_policy.1"),
        ("[relay]\nexit_policy = ['accept *:80', ['x']]\n", "relay.exit_policy.1"),
        ("lane = 'pigeon'\n", "lane"),
        ("nickname = 'a b'\n", "nickname"),
        ("nickname = ''\n", "nickname"),
        ("nickname = true\n", "nickname"),
        ("nickname = 7.5\n", "nickname"),
        (f"nickname = {'9' * 33}\n", "nickname"),
        ("log = 3\n", "log"),
    ],
)
def test_a_wrong_value_is_named(file: Path, text: str, key: str) -> None:
    error = failure(file, text)
    assert error.key == key
    assert error.source == str(file)
    assert error.remedy


def test_the_source_is_that_of_the_value_that_won(file: Path) -> None:
    text = "[mixer]\ninterval = 0.1\n"
    error = failure(file, text, {"PHANTOMBAND_MIXER__INTERVAL": "99"})
    assert (error.source, error.value) == ("environment PHANTOMBAND_MIXER__INTERVAL", "99")
    assert failure(file, text, {}, ("mixer.interval=-1",)).source == "--set"
    assert failure(file, "", {"PHANTOMBAND_MIXER__INTERVALL": "1"}).source == "environment PHANTOMBAND_MIXER__INTERVALL"


def test_what_is_missing_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        load(NodeConfig, None, {}, ["data_dir=x"])
    assert caught.value.key == "genesis"
    assert "genesis =" in caught.value.remedy


@pytest.mark.parametrize("flag", ["mixer.interval", "", "nickname"])
def test_a_flag_without_a_value_says_how_to_write_it(file: Path, flag: str) -> None:
    assert "key=value" in failure(file, "", {}, (flag,)).remedy


@pytest.mark.parametrize(
    "flags", [("lane=unix", "lane.x=1"), ("mixer=3", "mixer.interval=1"), ("=x",), ("a.b.c=1",), (".=1",)]
)
def test_senseless_flags_are_errors_not_tracebacks(file: Path, flags: tuple[str, ...]) -> None:
    failure(file, "", {}, flags)


@pytest.mark.parametrize("text", [b"a = ", b"[", b"x = 1\nx = 2\n", b"\xff\xfe", b"data_dir = '\xe4'\n"])
def test_a_file_that_is_not_toml_says_where(file: Path, text: bytes) -> None:
    file.write_bytes(text)
    with pytest.raises(UserError, match=r"node\.toml"):
        load(NodeConfig, file, {})


@pytest.mark.parametrize("name", ["absent.toml", "."])
def test_a_file_that_cannot_be_read_says_so(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="--config"):
        load(NodeConfig, tmp_path / name, {})


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("hops = 0\n", "hops"),
        ("hops = 9\n", "hops"),
        ("socks_port = 65536\n", "socks_port"),
        ("transport = 'smoke'\n", "transport"),
        ("http_port = 'x'\n", "http_port"),
        ("max_streams = 0\n", "max_streams"),
    ],
)
def test_the_clients_values_are_checked_too(file: Path, text: str, key: str) -> None:
    file.write_text(NEEDED + text)
    with pytest.raises(ConfigError) as caught:
        load(ClientConfig, file, {})
    assert caught.value.key == key


KEYS = st.sampled_from(
    ["mixer", "mixer.strategy", "lane", "services.relay", "gateway.listen", "nickname", "tls.ca", "x", ""]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(KEYS, st.text(max_size=12)), max_size=4))
def test_any_flags_give_a_configuration_or_an_error_for_people(flags: list[tuple[str, str]]) -> None:
    needed = ["genesis=g", "data_dir=d"]
    try:
        load(NodeConfig, None, {}, needed + [f"{key}={value}" for key, value in flags])
    except UserError:
        pass


@pytest.mark.parametrize(
    ("section", "text"),
    [
        ({}, "none"),
        ({"strategy": "threshold", "threshold": 100, "max_wait": 2}, "threshold:100:2.0"),
        ({"strategy": "timed"}, "timed:0.02"),
        ({"strategy": "pool", "pool_minimum": 10}, "pool:0.02:10:0.5:0.2"),
        ({"strategy": "poisson"}, "poisson:0.05"),
        ({"strategy": "slots", "slot": 0.05}, "slots:0.05"),
    ],
)
def test_what_the_descriptor_says_of_the_mixing(section: dict[str, object], text: str) -> None:
    assert MixerSection.model_validate(section).published == text


@pytest.mark.parametrize(
    ("section", "text"),
    [
        ({}, "off"),
        ({"padding_rate": 9}, "off"),
        ({"padding": "adaptive"}, "adaptive:fixed:32768"),
        ({"padding": "adaptive", "padding_rate": 512, "padding_schedule": "poisson"}, "adaptive:poisson:512"),
        ({"padding": "constant"}, "constant:fixed:128"),
        ({"padding": "constant", "padding_rate": 9}, "constant:fixed:9"),
    ],
)
def test_what_the_descriptor_says_of_the_padding(section: dict[str, object], text: str) -> None:
    gateway = GatewaySection.model_validate(section | {"padding_max_rate": 77})
    assert gateway.shape.text == text
    assert len(text) <= MAX_PADDING_BYTES
    assert gateway.pacing == Policy(gateway.shape, 77)


@pytest.mark.parametrize("name", MIX_NAMES)
def test_what_the_descriptor_says_of_the_mixing_fits(name: str) -> None:
    values = {"strategy": name, "interval": 1 / 3, "pool_fraction": 1e-17, "max_wait": 1e-300, "mean_delay": 1 / 7}
    published = MixerSection.model_validate(values | {"slot": 0.1 + 0.2}).published
    assert len(published.encode()) <= MAX_MIX_BYTES
    assert published.isascii()


def test_obfs4_addresses_may_be_written_as_elsewhere(file: Path) -> None:
    """With the hyphen that parameters of addresses in documents do not have."""
    listen = ["tls://0.0.0.0:1?sni=iat-mode=", "obfs4://0.0.0.0:443?iat-mode=2"]
    config = load(NodeConfig, file, {}, (f"gateway.listen={listen}",))
    assert config.gateway.listen == (listen[0], "obfs4://0.0.0.0:443?iat_mode=2")
