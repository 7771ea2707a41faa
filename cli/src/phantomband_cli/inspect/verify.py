"""`directory verify`: checks a certified view, or the proof of a fork, against a genesis file. Needs no network.

Times are not judged: an old view is as well certified as it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phantomband.core.errors import Malformed, UserError
from phantomband.core.netdir.certified import MAX_CERTIFIED_BYTES, CertifiedView, UnknownSet, verify_untrusted
from phantomband.core.netdir.changes import DirectorySets, Sets
from phantomband.core.netdir.genesis_file import load_genesis
from phantomband.core.wire import Reader

from phantomband_cli.inspect.source import read_changes

HOLDS, DOES_NOT, MISTAKE = 0, 1, 2
"""Exit codes: what was given is what it claims to be; it is not; it could not be looked at (a `UserError`)."""

MAX_FILE_BYTES = 2 * (4 + MAX_CERTIFIED_BYTES)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found out."""

    code: int
    text: str
    data: dict[str, Any]


def verify(files: list[Path], genesis: Path, changes: Path | None) -> Verdict:
    """Checks one view, or two that should contradict each other.

    Args:
        files: a certified view; or two; or the folder or file that a client or directory wrote as proof of a fork.
        changes: changes of the directory set, as a client keeps them.

    Raises:
        UserError: a file cannot be read, or there are too many.
    """
    sets = DirectorySets(load_genesis(genesis))
    if changes is not None:
        if not changes.exists():
            raise UserError(f"{changes}: there is no such file")
        read_changes(changes, sets)
    documents = _documents(files)
    try:
        checked = [_check(data, sets) for data in documents]
    except Malformed as e:
        hint = " Give --changes if the network's directories have changed." if isinstance(e, UnknownSet) else ""
        return Verdict(DOES_NOT, f"not certified: {e}.{hint}", {"certified": False, "why": str(e)})
    return _one(checked[0], sets) if len(checked) == 1 else _two(checked[0], checked[1], sets)


def _documents(files: list[Path]) -> list[bytes]:
    if len(files) == 2:
        return [_read(file) for file in files]
    if len(files) != 1:
        raise UserError("give one file, two, or the folder of a proof")
    if files[0].is_dir():
        return [_read(files[0] / name) for name in ("first", "second")]
    data = _read(files[0])
    pair = _as_evidence(data)
    return pair if pair is not None else [data]


def _as_evidence(data: bytes) -> list[bytes] | None:
    """Two documents in one file, as a directory keeps its evidence: length 4 | first | length 4 | second."""
    reader = Reader(data)
    try:
        pair = [reader.lv32(MAX_CERTIFIED_BYTES) for _ in range(2)]
        reader.end()
        for one in pair:
            CertifiedView.decode_untrusted(one)
    except Malformed:
        return None
    return pair


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_FILE_BYTES + 1)
    except OSError as e:
        raise UserError(
            f"{file}: cannot be read ({e.strerror}). Give a certified view, or the folder of a proof"
        ) from None
    if len(data) > MAX_FILE_BYTES:
        raise UserError(f"{file}: is too large for a certified view. Check the path")
    return data


def _check(data: bytes, sets: Sets) -> CertifiedView:
    """Raises: Malformed: not certified, whatever the time is."""
    then = CertifiedView.decode_untrusted(data).view.valid_after
    return verify_untrusted(data, sets, float(then), 0)


def _one(certified: CertifiedView, sets: Sets) -> Verdict:
    view, genesis = certified.view, sets.at(certified.view.epoch)
    signers = [genesis.directories[index].nickname for index, _ in certified.signatures]
    text = (
        f"certified: epoch {view.epoch}, {len(view.entries)} relays, signed by {len(signers)} of {genesis.size} "
        f"directories ({genesis.quorum} are needed): {', '.join(signers)}\ndigest {certified.digest.hex()}"
    )
    data = {"certified": True, "epoch": view.epoch, "digest": certified.digest.hex(), "signers": signers}
    return Verdict(HOLDS, text, data)


def _two(first: CertifiedView, second: CertifiedView, sets: Sets) -> Verdict:
    epochs, digests = (first.view.epoch, second.view.epoch), [first.digest.hex(), second.digest.hex()]
    if epochs[0] != epochs[1] or digests[0] == digests[1]:
        why = "one and the same view" if digests[0] == digests[1] else f"views of epochs {epochs[0]} and {epochs[1]}"
        return Verdict(DOES_NOT, f"no fork: {why}. Both are certified", {"fork": False, "digests": digests})
    directories = sets.at(epochs[0]).directories
    both = sorted({i for i, _ in first.signatures} & {i for i, _ in second.signatures})
    culprits = [{"index": i, "nickname": directories[i].nickname, "node_id": str(directories[i].node_id)} for i in both]
    names = ", ".join(str(c["nickname"]) for c in culprits)
    text = (
        f"FORK: epoch {epochs[0]} has two certified views. Signed both, against their promise: {names}\n"
        f"digests {digests[0]}\n        {digests[1]}\n"
        "Do not use this network until its operators have explained it"
    )
    return Verdict(HOLDS, text, {"fork": True, "epoch": epochs[0], "digests": digests, "culprits": culprits})
