"""`config check` and what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
from phantomband.core.errors import UserError
from phantomband_cli.config_check import check, guess_kind
from phantomband_cli.testnet.layout import Layout
from phantomband_cli.testnet.options import Options
from phantomband_cli.testnet.prepare import prepare, write_toml


@pytest.fixture
def network(tmp_path: Path) -> Layout:
    """The files of a small test network."""
    layout = Layout.at(tmp_path / "net")
    layout.claim()
    prepare(layout, Options(nodes=3, directories=1, socks_port=0), 1_790_000_000.5, lambda n: bytes(range(n)))
    return layout


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in os.environ:
        if name.startswith("PHANTOMBAND_"):
            monkeypatch.delenv(name)


def test_the_files_of_a_test_network_are_good_and_told_apart(network: Layout) -> None:
    assert check(network.client_config, None) == "client"
    assert {check(network.node_config(name), None) for name in ("n1", "n2", "n3")} == {"node"}


def node_file(network: Layout, tmp_path: Path, **sections: dict[str, object]) -> Path:
    file = tmp_path / "node.toml"
    write_toml(file, {"genesis": str(network.genesis), "data_dir": str(tmp_path)}, sections)
    return file


@pytest.mark.parametrize(
    ("section", "values", "says"),
    [
        ("gateway", {"listn": ["tcp://127.0.0.1:1"]}, ["gateway.listn", "unknown", "Did you mean listen?"]),
        (
            "gateway",
            {"listen": ["tcp://a.org:1"]},
            ["gateway.listen", "tcp://a.org:1", "transport://IP:port"],
        ),
        ("gateway", {"listen": 5}, ["gateway.listen", "5"]),
        (
            "gateway",
            {"listen": ["websocket://127.0.0.1:1?site=/no/where"]},
            ["gateway.listen", "no such folder", "Make it"],
        ),
        ("relay", {"exit_policy": ["acept *:*"]}, ["relay.exit_policy", "acept", 'as "accept *:443"']),
        ("relay", {"exit_policy": ["accept *:80", 7]}, ["relay.exit_policy", "7", 'as "accept *:443"']),
        ("relay", {"connect_timeout": -1}, ["relay.connect_timeout", "-1"]),
        (
            "mixer",
            {"max_cells": 300, "threshold": 300},
            ["mixer.max_cells", "more than threshold, which is 300"],
        ),
        ("mixer", {"strategy": "poison"}, ["mixer.strategy", "'poison'", "'poisson' or 'slots'"]),
    ],
)
def test_a_fault_is_named_with_file_key_value_and_remedy(
    network: Layout, tmp_path: Path, section: str, values: dict[str, object], says: list[str]
) -> None:
    file = node_file(network, tmp_path, **{section: values})
    with pytest.raises(UserError) as e:
        check(file, "node")
    for word in [str(file), *says]:
        assert word in str(e.value)


def test_a_missing_genesis_is_named(tmp_path: Path) -> None:
    file = tmp_path / "client.toml"
    write_toml(file, {"genesis": str(tmp_path / "none.json"), "data_dir": str(tmp_path), "socks_port": 1}, {})
    assert guess_kind(file) == "client"
    with pytest.raises(UserError, match=r"genesis = .*none\.json.*no such file"):
        check(file, None)


def test_a_file_that_is_not_toml(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text("a = = 1\n")
    with pytest.raises(UserError, match=r"node\.toml: is not TOML.*line 1"):
        check(file, None)


@pytest.mark.parametrize(("url", "transport", "says"), [
    ("http://me:hunter2@127.0.0.1:3128", "websocket", ""), ("socks5://127.0.0.1:1080", "obfs4", ""),
    ("http://me:hunter2@proxy.example.org:3128", "tls", "IP address"),
    ("http://me:hunter2@127.0.0.1:1", "quic", "quic"),
])  # fmt: skip
def test_a_proxy_is_checked_and_its_password_not_shown(
    network: Layout, tmp_path: Path, url: str, transport: str, says: str
) -> None:
    file = tmp_path / "client.toml"
    values = {"genesis": str(network.genesis), "data_dir": str(tmp_path), "upstream_proxy": url}
    write_toml(file, {**values, "transport": transport}, {})
    if not says:
        assert check(file, None) == "client"
        return
    with pytest.raises(UserError, match="upstream_proxy") as caught:
        check(file, None)
    assert says in str(caught.value)
    assert "hunter2" not in str(caught.value)
