"""Files of a test network: directory, lock, state, and what status makes of them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from phantomband.core.errors import UserError
from phantomband_cli import control
from phantomband_cli.process import ProcessId
from phantomband_cli.testnet import status
from phantomband_cli.testnet.down import down
from phantomband_cli.testnet.layout import Layout, demo_directory
from phantomband_cli.testnet.options import Options
from phantomband_cli.testnet.state import (
    ServiceState,
    State,
    client_socket,
    find,
    read_state,
    supervisor_of,
    take_lock,
    write_state,
)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout.at(tmp_path / "net")
    layout.claim()
    return layout


def state_of(layout: Layout, pid: int | None = None) -> State:
    services = tuple(
        ServiceState(f"{node}.{service}", node, service, pid, start, "running", 0, "/log")
        for start in [ProcessId.of(pid).started if pid else 0]
        for node, service in [("n1", "relay"), ("n1", "gateway"), ("client", "client")]
    )
    return State("running", str(layout.run), "127.0.0.1:9150", None, Options(nodes=3), services)


def test_state_round_trip(layout: Layout) -> None:
    assert read_state(layout) is None
    state = state_of(layout, os.getpid())
    write_state(layout, state)
    assert read_state(layout) == state
    assert state.socket_of(state.services[0]) == layout.run / "n1" / "relay.sock"


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"version": 2}', '{"version": 1}', "nonsense"])
def test_a_damaged_state_says_what_to_do(layout: Layout, text: str) -> None:
    layout.state.write_text(text)
    with pytest.raises(UserError, match="testnet down"):
        read_state(layout)
    assert not down(layout)
    assert read_state(layout) is None


def test_one_lock_one_holder(layout: Layout) -> None:
    assert supervisor_of(layout) is None
    lock = take_lock(layout)
    assert lock is not None
    assert take_lock(layout) is None
    assert supervisor_of(layout) == ProcessId.of(os.getpid())
    lock.close()
    assert supervisor_of(layout) is None


def test_what_a_killed_supervisor_left_is_ended(layout: Layout) -> None:
    with subprocess.Popen(["sleep", "60"]) as left:
        write_state(layout, state_of(layout, left.pid))
        lock = take_lock(layout)
        assert lock is not None
        lock.close()
        assert not down(layout)
        assert left.wait(5) == -9
    assert not layout.state.exists()


def test_a_network_that_somebody_else_runs_is_left_alone(layout: Layout) -> None:
    from phantomband_cli.testnet.down import _kill_rest

    with subprocess.Popen(["sleep", "60"]) as theirs, take_lock(layout) or pytest.fail("locked"):
        write_state(layout, state_of(layout, theirs.pid))
        _kill_rest(layout)
        assert theirs.poll() is None
        assert layout.state.exists()
        theirs.kill()


def test_directories_of_others_are_not_emptied(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("long")
    with pytest.raises(UserError, match="--dir"):
        Layout.at(tmp_path).claim()
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_run_directory_of_somebody_else_is_refused(layout: Layout, tmp_path: Path) -> None:
    layout.run.symlink_to(tmp_path)
    with pytest.raises(UserError, match="belongs to somebody else"):
        layout.make_run()


def test_socket_paths_are_short_wherever_the_network_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/" + "x" * 90)
    longest = Layout(Path("/" + "y" * 300)).run / "n200" / ".directory-0123456789abcdef0123456789abcdef.lane"
    assert len(os.fsencode(longest)) <= 107


def test_status_has_the_same_shape_with_and_without_answers(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    def answers(sockets: Mapping[str, Path], timeout: float = 0) -> dict[str, Any]:
        return {
            name: control.ServiceStatus("serving", {"links": 2.0}) if "gateway" in name else None for name in sockets
        }

    monkeypatch.setattr(control, "ask_services", answers)
    with take_lock(layout) or pytest.fail("locked"):
        assert status.gather(layout)["phase"] == "starting"
        write_state(layout, state_of(layout, os.getpid()))
        found = json.loads(json.dumps(status.gather(layout)))
    assert found["running"]
    assert found["socks"] == "127.0.0.1:9150"
    assert [n["name"] for n in found["nodes"]] == ["n1", "n2", "n3"]
    relay, gateway = found["nodes"][0]["services"]
    assert (relay["state"], relay["status"]) == ("running", None)
    assert (gateway["state"], gateway["status"]) == ("serving", {"links": 2.0})
    assert relay.keys() == gateway.keys() == {*found["client"].keys()} - {"bootstrap"}
    assert found["client"]["bootstrap"] is None


def test_questions_find_the_network_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    usual, demo = Layout.at(None), Layout.at(demo_directory())
    assert find(None) == usual
    demo.claim()
    with take_lock(demo) or pytest.fail("locked"):
        assert find(None) == demo
        assert find(tmp_path) == Layout(tmp_path)
        usual.claim()
        with take_lock(usual) or pytest.fail("locked"):
            assert find(None) == usual
    assert (usual.flag, demo.flag) == ("", f" --dir {demo.root}")


def test_the_state_knows_the_client_whatever_the_environment(layout: Layout) -> None:
    assert client_socket(layout) == layout.client_socket
    write_state(layout, replace(state_of(layout), run_dir="/run/user/7/pb-0"))
    assert client_socket(layout) == Path("/run/user/7/pb-0/client/client.sock")
