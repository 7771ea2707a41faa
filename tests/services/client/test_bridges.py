"""The file of bridges: added whole or not at all, listed in order, removed by number."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from phantomband.core.errors import UserError
from phantomband_client.bridges import MAX_BRIDGES, StoredBridges


def line(number: int, network: str = "ab") -> str:
    return f"Bridge tls 192.0.2.{number}:443 {number:064x} link-key={'4d' * 32} network={network * 32} sni=example.org"


def test_lines_are_kept_in_order_once(tmp_path: Path) -> None:
    book = StoredBridges(tmp_path / "client")
    assert book.lines() == []
    assert book.add([line(1), line(2)]) == 2
    assert book.add([line(3), line(1).removeprefix("Bridge "), line(2)]) == 1
    assert book.lines() == [line(1), line(2), line(3)]
    assert stat.S_IMODE(book.path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("wrong", "said"),
    [("nonsense", "has the form"), (line(2, "ef"), "different networks"), (line(300), "cannot be used")],
)
def test_one_wrong_line_and_none_is_added(tmp_path: Path, wrong: str, said: str) -> None:
    book = StoredBridges(tmp_path)
    book.add([line(1)])
    with pytest.raises(UserError, match=said):
        book.add([line(3), wrong])
    assert book.lines() == [line(1)]


def test_there_is_a_limit(tmp_path: Path) -> None:
    book = StoredBridges(tmp_path)
    book.add([line(i) for i in range(1, MAX_BRIDGES + 1)])
    with pytest.raises(UserError, match="over 64"):
        book.add([line(200)])


def test_remove_by_number(tmp_path: Path) -> None:
    book = StoredBridges(tmp_path)
    book.add([line(1), line(2)])
    assert book.remove(1).address.host == "192.0.2.1"
    assert book.lines() == [line(2)]
    with pytest.raises(UserError, match="bridge list"):
        book.remove(2)


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "bridges").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="cannot be read"):
        StoredBridges(tmp_path).lines()
