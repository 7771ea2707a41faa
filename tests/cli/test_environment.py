"""What a machine, a container or an editor puts around a program is no reason to end, and never means another value."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import structlog
from phantomband.core.errors import ConfigError, UserError
from phantomband.runtime.log import Sink, configure
from phantomband.runtime.settings import ClientConfig, load
from phantomband_cli.node import client_settings, toml_value, write_node_config

NAMES = ["a b", "50%20#?", 'q"uo\\te', "käse-日本", "📁", "latin\udce9", "tab\tnew\nline\x7f"]


@pytest.mark.parametrize("service", ["SOCKS", "HTTP", "STRONG", "FAST", "BALANCED"])
@pytest.mark.parametrize("link", ["tcp://10.96.0.7:9150", "udp://[fd00::1]:53", "tcp://172.17.0.2:1"])
def test_a_variable_of_kubernetes_or_docker_for_a_service_is_left_aside_with_a_warning(
    tmp_path: Path, service: str, link: str
) -> None:
    name = f"PHANTOMBAND_{service}"
    links = {f"{name}_PORT": link, f"{name}_SERVICE_HOST": "10.96.0.7", f"{name}_SERVICE_PORT": "9150",
             f"{name}_PORT_9150_TCP": link, f"{name}_PORT_9150_TCP_ADDR": "10.96.0.7"}  # fmt: skip
    said: list[str] = []
    flags = (f"data_dir={tmp_path}", f"genesis={tmp_path}/g")
    assert load(ClientConfig, None, links, flags, said.append) == load(ClientConfig, None, {}, flags)
    assert len(said) == 1
    assert f"{name}_PORT" in said[0]
    assert load(ClientConfig, None, {f"{name}_PORT": "9999"}, flags, said.append) != load(ClientConfig, None, {}, flags)


def test_a_wrong_port_of_a_person_is_still_an_error(tmp_path: Path) -> None:
    for value in ("tcp://", "9150x", "tcp://host"):
        with pytest.raises(ConfigError, match="socks_port"):
            load(ClientConfig, None, {"PHANTOMBAND_SOCKS_PORT": value}, (f"data_dir={tmp_path}", "genesis=/g"))


@pytest.mark.parametrize("name", NAMES)
def test_our_own_settings_are_read_back_whatever_a_path_holds(tmp_path: Path, name: str) -> None:
    given = client_settings(["Bridge"], tmp_path / name, [])
    config = load(ClientConfig, None, {}, given)
    assert config.data_dir == tmp_path / name
    file = tmp_path / "c.toml"
    file.write_bytes(
        os.fsencode(f"data_dir = {toml_value(str(tmp_path / name))}\ngenesis = {toml_value('/g' + name)}\n")
    )
    assert load(ClientConfig, file, {}).data_dir == tmp_path / name
    assert str(load(ClientConfig, file, {}).genesis) == "/g" + name


@pytest.mark.parametrize("name", NAMES)
def test_a_nodes_file_that_we_write_is_read_back(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    write_node_config(folder / "node.toml", "n1", folder / "genesis.json", folder / "data", 9001, founding=True)
    assert (folder / "node.toml").exists()


@pytest.mark.parametrize("value", ['"\\ud83d\\udcc1"', '"open', "'x", '"a" b'])
def test_what_begins_as_a_text_and_is_none_never_becomes_a_directory_here(value: str) -> None:
    with pytest.raises(ConfigError, match="data_dir"):
        load(ClientConfig, None, {}, (f"data_dir={value}",))


def test_a_byte_order_mark_is_no_key(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_bytes(b"\xef\xbb\xbf" + f'data_dir = "{tmp_path}"\ngenesis = "/g"\n'.encode())
    assert load(ClientConfig, file, {}).data_dir == tmp_path
    file.write_bytes("data_dir = 1".encode("utf-16"))
    with pytest.raises(UserError, match="is not TOML"):
        load(ClientConfig, file, {})
    file.write_bytes(b"a = " + b"[" * 100_000)
    with pytest.raises(UserError, match="nested"):
        load(ClientConfig, file, {})


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def test_a_log_that_cannot_be_written_ends_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    for out in (Broken(), closed, None):
        monkeypatch.setattr(sys, "stderr", out)
        for form in ("text", "json"):
            configure("client", "info", form).warning("a line")
    structlog.reset_defaults()
    sink = Sink(Broken())
    sink.write("a\n")
    assert sink.lost == 1


def test_a_process_without_standard_files_gets_none_of_its_sockets_written_to() -> None:
    code = (
        "import os, sys; from phantomband.runtime.standard_files import open_standard_files\n"
        "for n in (0, 1, 2): os.close(n)\n"
        "open_standard_files(); handle = os.open('/', os.O_RDONLY)\n"
        "null = os.stat(os.devnull)\n"
        "os._exit(0 if handle > 2 and all(os.path.samestat(os.fstat(n), null) for n in (0, 1, 2)) else 1)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
