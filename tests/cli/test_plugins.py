"""`--pt`, and programs in configuration files: read, checked, and named when they cannot work."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from phantomband.core.errors import UserError
from phantomband.runtime.pluggable import programs
from phantomband.runtime.settings import ClientConfig, NodeConfig, load
from phantomband_cli.config_check import check
from phantomband_cli.main import main
from phantomband_cli.node import plugin_settings, toml_value

LINE = f"webtunnel,meek_lite exec {sys.executable} -log 'two \"words\"'"


def test_a_line_becomes_the_same_as_a_table_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "client.toml"
    file.write_text(
        f'data_dir = "{tmp_path}"\ngenesis = "g"\n[[pluggable]]\ntransports = ["webtunnel", "meek_lite"]\n'
        f'program = "{sys.executable}"\narguments = ["-log", "two \\"words\\""]\n'
    )
    written = load(ClientConfig, file, {})
    given = load(
        ClientConfig, None, {}, [f"data_dir={tmp_path}", "genesis=g", *plugin_settings("pluggable", [LINE], [])]
    )
    assert given.pluggable == written.pluggable
    assert given.pluggable[0].transports == ("webtunnel", "meek_lite")
    found = programs(given.pluggable, tmp_path)
    assert found.of("webtunnel") is not None
    assert found.of("tls") is None


def test_settings_come_behind_and_nothing_is_added_without_a_line() -> None:
    assert plugin_settings("pluggable", [], ["a=1"]) == ["a=1"]
    assert plugin_settings("gateway.pluggable", [LINE], ["a=1"])[1:] == ["a=1"]
    assert toml_value({"a": [1, {"b": 'x"'}], "c": True}) == '{a = [1, {b = "x\\""}], c = true}'


def test_unknown_keys_of_a_program_are_named(tmp_path: Path) -> None:
    flags = [f"data_dir={tmp_path}", "genesis=g", 'pluggable=[{transports=["x"], program="y", argument=[]}]']
    with pytest.raises(UserError, match=r"pluggable\.0\.argument.*Did you mean arguments"):
        load(ClientConfig, None, {}, flags)
    with pytest.raises(UserError, match=r"pluggable\.0\.program.*is needed"):
        load(ClientConfig, None, {}, [*flags[:2], 'pluggable=[{transports=["x"]}]'])


@pytest.mark.parametrize(("kind", "section"), [("client", ""), ("node", "[gateway]")])
def test_a_program_that_is_not_there_is_found_by_the_check(tmp_path: Path, kind: str, section: str) -> None:
    file = tmp_path / "x.toml"
    bridge = f"Bridge webtunnel 192.0.2.3:1 {'11' * 32} link-key={'22' * 32} network={'33' * 32} url=https://x/"
    top = f"data_dir = '{tmp_path}'\n"
    top += f'bridges = ["{bridge}"]\n' if kind == "client" else "genesis = 'g'\n"
    for program, good in ((sys.executable, True), (str(tmp_path / "none"), False)):
        file.write_text(f'{top}{section}\npluggable = [{{transports = ["webtunnel"], program = "{program}"}}]\n')
        if good:
            assert check(file, None, founding=True) == kind
            continue
        with pytest.raises(UserError, match=r"pluggable.*is not there.*Install"):
            check(file, None, founding=True)


def test_hyphens_in_addresses_of_programs() -> None:
    listen = ["webtunnel://127.0.0.1:1?a-b=c-d&e-f-g=h", "obfs4://0.0.0.0:443?iat-mode=1", "tcp://192.0.2.1:1"]
    config = load(NodeConfig, None, {}, ["data_dir=x", "genesis=g", f"gateway.listen={toml_value(listen)}"])
    assert config.gateway.listen == (
        "webtunnel://127.0.0.1:1?a_b=c-d&e_f_g=h",
        "obfs4://0.0.0.0:443?iat_mode=1",
        "tcp://192.0.2.1:1",
    )


@pytest.mark.parametrize("line", ["webtunnel", "webtunnel socks5 127.0.0.1:1", "x exec"])
def test_a_line_that_is_none_is_a_users_mistake(line: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["client", "--config", str(tmp_path / "x"), "--pt", line])
    assert caught.value.code == 2
    assert "exec PROGRAM" in capsys.readouterr().err
