"""`directory verify`: views and proofs of forks, against a genesis file alone."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from phantomband.core.errors import UserError
from phantomband.core.netdir.changes import propose
from phantomband.core.netdir.genesis_file import save_genesis
from phantomband.core.netdir.replies import ViewReply, encode_reply
from phantomband.core.wire import lv32
from phantomband.runtime.state_files import StateFiles
from phantomband_cli.inspect.verify import DOES_NOT, HOLDS, verify
from phantomband_cli.main import main
from phantomband_client.network_view import NetworkView

MAKE: Any = runpy.run_path(str(Path(__file__).parents[2] / "core" / "netdir" / "conftest.py"))["World"]()
GENESIS = MAKE.genesis(4)


def certified(epoch: int, relays: int = 3, signers: tuple[int, ...] = (0, 1, 2), genesis: Any = GENESIS) -> bytes:
    view = MAKE.view(genesis, [MAKE.entry(i) for i in range(relays)], epoch)
    encoded: bytes = MAKE.certify(view, list(signers)).encode()
    return encoded


@pytest.fixture
def genesis(tmp_path: Path) -> Path:
    save_genesis(GENESIS, tmp_path / "genesis.json")
    return tmp_path / "genesis.json"


def written(folder: Path, name: str, data: bytes) -> Path:
    (folder / name).write_bytes(data)
    return folder / name


def test_a_certified_view_holds_and_its_signers_are_named(tmp_path: Path, genesis: Path) -> None:
    verdict = verify([written(tmp_path, "v", certified(6))], genesis, None)
    assert verdict.code == HOLDS
    assert "epoch 6, 3 relays, signed by 3 of 4 directories (3 are needed): dir0, dir1, dir2" in verdict.text
    assert verdict.data["signers"] == ["dir0", "dir1", "dir2"]


def test_the_time_does_not_matter(tmp_path: Path, genesis: Path) -> None:
    assert verify([written(tmp_path, "v", certified(10_000))], genesis, None).code == HOLDS


FALSE = {
    "too few": certified(6, signers=(0, 1)),
    "forged": certified(6)[:-1] + b"x",
    "of another network": certified(6, genesis=MAKE.genesis(3)),
    "noise": b"noise",
    "empty": b"",
}


@pytest.mark.parametrize("data", FALSE.values(), ids=FALSE.keys())
def test_what_is_not_certified_does_not_hold(tmp_path: Path, genesis: Path, data: bytes) -> None:
    verdict = verify([written(tmp_path, "v", data)], genesis, None)
    assert verdict.code == DOES_NOT
    assert verdict.text.startswith("not certified: ")
    assert verdict.data["certified"] is False


def check_fork(files: list[Path], genesis: Path) -> None:
    verdict = verify(files, genesis, None)
    assert verdict.code == HOLDS
    assert "FORK: epoch 6" in verdict.text
    assert "against their promise: dir1, dir2" in verdict.text
    assert [c["index"] for c in verdict.data["culprits"]] == [1, 2]


def test_a_fork_in_all_the_forms_it_is_kept_in(tmp_path: Path, genesis: Path) -> None:
    first, second = certified(6), certified(6, relays=2, signers=(1, 2, 3))
    check_fork([written(tmp_path, "a", first), written(tmp_path, "b", second)], genesis)
    check_fork([written(tmp_path, "evidence", lv32(first) + lv32(second))], genesis)


def test_the_proof_that_a_client_exports_holds(tmp_path: Path, genesis: Path) -> None:
    view = NetworkView(GENESIS, StateFiles(tmp_path), lambda: GENESIS.clock.end(6) + 1.0)
    view.take(encode_reply(ViewReply(certified(6))))
    with pytest.raises(UserError, match="fork-6"):
        view.take(encode_reply(ViewReply(certified(6, relays=2, signers=(1, 2, 3)))))
    check_fork([tmp_path / "fork-6"], genesis)


def test_two_that_do_not_contradict_each_other_are_no_fork(tmp_path: Path, genesis: Path) -> None:
    five, six = written(tmp_path, "5", certified(5)), written(tmp_path, "6", certified(6))
    again = written(tmp_path, "6b", certified(6, signers=(0, 1, 3)))
    for pair, why in (([five, six], "epochs 5 and 6"), ([six, again], "one and the same")):
        verdict = verify(pair, genesis, None)
        assert verdict.code == DOES_NOT
        assert f"no fork: {'views of ' if 'epochs' in why else ''}{why}" in verdict.text


def test_a_proof_with_a_forged_half_does_not_hold(tmp_path: Path, genesis: Path) -> None:
    pair = [written(tmp_path, "a", certified(6)), written(tmp_path, "b", certified(6, relays=2, signers=(0, 1)))]
    assert verify(pair, genesis, None).code == DOES_NOT


def test_with_changes_views_of_a_later_set_hold(tmp_path: Path, genesis: Path) -> None:
    change = propose(GENESIS, 1, 7, [GENESIS.directories[3].node_id], [])
    for index in range(3):
        change = change.signed_by(index, MAKE.key(index))
    later = GENESIS.with_directories(GENESIS.directories[:3])
    view = written(tmp_path, "v", certified(8, genesis=later))
    verdict = verify([view], genesis, None)
    assert verdict.code == DOES_NOT
    assert "Give --changes" in verdict.text
    changes = written(tmp_path, "changes", lv32(change.encode()))
    assert "3 of 3 directories" in verify([view], genesis, changes).text
    with pytest.raises(UserError, match="holds no changes"):
        verify([view], genesis, written(tmp_path, "bad", b"xyz"))


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as e:
        main(["directory", "verify", *map(str, arguments)])
    out, err = capsys.readouterr()
    return int(e.value.code or 0), out, err


def test_exit_codes_and_json(tmp_path: Path, genesis: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = written(tmp_path, "v", certified(6)), written(tmp_path, "w", b"x")
    code, out, _ = run(capsys, good, "--genesis", genesis, "--json")
    assert (code, json.loads(out)["epoch"]) == (0, 6)
    code, out, _ = run(capsys, bad, "--genesis", genesis, "--json")
    assert (code, json.loads(out)["certified"]) == (1, False)
    for arguments in ((tmp_path / "absent", "--genesis", genesis), (good, "--genesis", tmp_path / "absent"),
                      (good, good, good, "--genesis", genesis), (tmp_path, "--genesis", genesis)):  # fmt: skip
        code, out, err = run(capsys, *arguments)
        assert (code, out) == (2, "")
        assert err.startswith("error: ")
