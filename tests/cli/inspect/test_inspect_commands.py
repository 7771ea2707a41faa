"""`directory status` and `members` of a client's files, and the mistakes that a person can make."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from phantomband.core.bridge_line import BridgeLine
from phantomband.core.errors import UserError
from phantomband.core.ids import NodeId
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.genesis_file import save_genesis
from phantomband.proto import gateway_pb2
from phantomband_cli.inspect.bridge import _address
from phantomband_cli.main import main
from phantomband_cli.node import client_settings

MAKE: Any = runpy.run_path(str(Path(__file__).parents[2] / "core" / "netdir" / "conftest.py"))["World"]()
GENESIS = MAKE.genesis(4)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A client's file, with a stored view."""
    save_genesis(GENESIS, tmp_path / "genesis.json")
    view = MAKE.view(GENESIS, [MAKE.entry(i, weight=10 * i, since=i) for i in range(5)], 6)
    (tmp_path / "view").write_bytes(MAKE.certify(view, [0, 1, 3]).encode())
    file = tmp_path / "client.toml"
    file.write_text(f'genesis = "{tmp_path}/genesis.json"\ndata_dir = "{tmp_path}"\nsocks_port = 0\n')
    return file


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as e:
        main([*map(str, arguments)])
    out, err = capsys.readouterr()
    return int(e.value.code or 0), out, err


def test_status_of_a_clients_view(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "directory", "status", "--config", config, "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["node_id"], found["voter"], found["quorum"]) == (None, None, 3)
    assert (found["view"]["epoch"], found["view"]["relays"], found["view"]["freshness"]) == (6, 5, "expired")
    assert [d["signed"] for d in found["directories"]] == [True, True, False, True]
    code, out, _ = run(capsys, "directory", "status", "--config", config)
    assert code == 0
    assert "signed by    dir0, dir1, dir3 (3 of 4, quorum 3)" in out
    assert "not signed   dir2" in out


def test_status_without_a_view(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (config.parent / "view").unlink()
    _, out, _ = run(capsys, "directory", "status", "--config", config)
    assert "view         none yet" in out
    _, out, _ = run(capsys, "directory", "members", "--config", config, "--json")
    assert json.loads(out)["relays"] == []


def test_members_heaviest_first(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "directory", "members", "--config", config, "--json")
    relays = json.loads(out)["relays"]
    assert [r["nickname"] for r in relays] == ["node4", "node3", "node2", "node1", "node0"]
    assert relays[1] == {
        "node_id": str(MAKE.entry(3).node_id), "nickname": "node3", "flags": ["guard", "exit", "fast"], "weight": 30,
        "since": 3, "transports": ["tcp"], "family": None, "exit_policy": ["accept *:80", "accept *:443"],
        "mix": "none", "padding": "adaptive:poisson:512",
    }  # fmt: skip
    _, out, _ = run(capsys, "directory", "members", "--config", config)
    assert "view of epoch 6, 5 relays" in out
    assert "guard exit fast" in out


MISTAKES = [
    (("directory", "status", "--dir", "/nonexistent"), "no test network runs"),
    (("directory", "members", "--dir", "/nonexistent", "--client"), "no test network runs"),
    (("directory", "status", "--config", "/nonexistent.toml"), "/nonexistent.toml"),
    (("bridge", "line", "--dir", "/nonexistent"), "no test network runs"),
    (("client", "--bridge", "Bridge tls"), "--config"),
]


@pytest.mark.parametrize(("arguments", "says"), MISTAKES, ids=range(len(MISTAKES)))
def test_a_users_mistake_is_a_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str
) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert says in err


def test_a_damaged_stored_view_is_said(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (config.parent / "view").write_bytes(b"x")
    code, _, err = run(capsys, "directory", "members", "--config", config)
    assert code == 2
    assert "cannot be used" in err


def test_a_node_that_does_not_know_its_address_has_no_line() -> None:
    with pytest.raises(UserError, match=r"Set gateway.advertise"):
        _address(gateway_pb2.TransportAddress(transport="tcp", host="0.0.0.0", port=9001))
    wire = gateway_pb2.TransportAddress(transport="tls", host="192.0.2.1", port=443, parameters={"sni": "a.example"})
    assert _address(wire) == NodeAddress("tls", "192.0.2.1", 443, (("sni", "a.example"),))


def test_a_line_and_a_folder_become_settings(tmp_path: Path) -> None:
    line = BridgeLine(NodeAddress("tcp", "192.0.2.1", 1), NodeId(bytes(32)), bytes(32), bytes(32)).text()
    assert client_settings([line], tmp_path, ["hops=3"]) == [f'bridges=["{line}"]', f'data_dir="{tmp_path}"', "hops=3"]
    assert client_settings([], None, []) == []
