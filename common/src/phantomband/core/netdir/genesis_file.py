"""The genesis file: JSON that a person can read, checked to the last field.

{"phantomband_genesis": 2, "network": "my-net", "network_id": "<64 hex digits>", "test_network": true,
 "epochs": {"start": 1790000000, "startup_epochs": 60, "startup_seconds": 1, "epoch_seconds": 30},
 "min_relays": 3,
 "terms": {"work": {"n": 120, "k": 5, "floor": 4, "ceiling": 12, "expected_joins": 8, "window": 3},
           "probation_epochs": 24, "notice_epochs": 24},
 "directories": [{"nickname": "a", "identity": "<base64>", "link_key": "<base64>",
                  "addresses": ["tcp://192.0.2.1:9001"]}]}

`work` is null where stamps are not asked for.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import TypeVar

from phantomband.core.errors import Malformed, UserError
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.epoch import EpochClock
from phantomband.core.netdir.genesis import DirectoryInfo, Genesis, Terms
from phantomband.core.work.difficulty import FREE, DifficultyRule
from phantomband.core.work.equihash import Parameters

FORMAT = 2
MAX_FILE_BYTES = 1024 * 1024

_COPY = "Get an unchanged copy from whoever runs the network, or generate it anew."

_T = TypeVar("_T")


def load_genesis(path: Path) -> Genesis:
    """Reads a genesis file.

    Raises:
        UserError: it cannot be read or used; names file, field, what is wrong and what to do.
    """
    try:
        raw = path.read_bytes()
    except OSError as e:
        raise UserError(f"{path}: cannot read the genesis file: {e.strerror}. Check the path and permissions.") from e
    return parse_genesis(raw, str(path))


def save_genesis(genesis: Genesis, path: Path) -> None:
    """Writes the file that `load_genesis` reads."""
    path.write_text(genesis_text(genesis), encoding="ascii")


def parse_genesis(raw: bytes, source: str) -> Genesis:
    """From the bytes of a file named `source`.

    Raises:
        UserError: as `load_genesis`.
    """
    if len(raw) > MAX_FILE_BYTES:
        raise UserError(f"{source}: over {MAX_FILE_BYTES} bytes is no genesis file. Check the path.")
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError) as e:
        raise UserError(f"{source}: not JSON ({e}). {_COPY}") from e
    try:
        return _genesis(_Fields(data, source, "", _TOP))
    except Malformed as e:
        raise UserError(f"{source}: {e}. {_COPY}") from e


def genesis_text(genesis: Genesis) -> str:
    """Returns: the file's text, ASCII, ending in a line feed."""
    clock = genesis.clock
    data = {
        "phantomband_genesis": FORMAT,
        "network": genesis.name,
        "network_id": genesis.network_id.hex(),
        "test_network": genesis.test_network,
        "epochs": {
            "start": clock.start_time,
            "startup_epochs": clock.startup_epochs,
            "startup_seconds": clock.startup_seconds,
            "epoch_seconds": clock.epoch_seconds,
        },
        "min_relays": genesis.min_relays,
        "terms": _terms_json(genesis.terms),
        "directories": [_directory_json(directory) for directory in genesis.directories],
    }
    return json.dumps(data, indent=2) + "\n"


def directory_text(directory: DirectoryInfo) -> str:
    """One directory as it stands in a genesis file; what its operator hands to whoever writes one."""
    return json.dumps(_directory_json(directory), indent=2) + "\n"


def parse_directory(raw: bytes, source: str) -> DirectoryInfo:
    """The same from a file named `source`.

    Raises:
        UserError: as `load_genesis`.
    """
    try:
        data = json.loads(raw[:MAX_FILE_BYTES])
    except (ValueError, RecursionError) as e:
        raise UserError(f"{source}: not JSON ({e}). {_COPY}") from e
    return _directory(_Fields(data, source, "", _DIRECTORY))


_TOP = ("phantomband_genesis", "network", "network_id", "test_network", "epochs", "min_relays", "terms", "directories")
_TERMS = ("work", "probation_epochs", "notice_epochs")
_WORK = ("n", "k", "floor", "ceiling", "expected_joins", "window")
_EPOCHS = ("start", "startup_epochs", "startup_seconds", "epoch_seconds")
_DIRECTORY = ("nickname", "identity", "link_key", "addresses")


class _Fields:
    """One JSON object whose every field is named in errors."""

    def __init__(self, data: object, source: str, prefix: str, known: tuple[str, ...]) -> None:
        self._source, self._prefix = source, prefix
        if not isinstance(data, Mapping):
            raise self.error("", "must be a JSON object")
        self._data: Mapping[str, object] = data
        for key in data:
            if key not in known:
                raise self.error(str(key), f"is not a known field (known: {', '.join(known)})")

    def error(self, key: str, problem: str) -> UserError:
        name = f"{self._prefix}{key}".rstrip(".") or "the file"
        return UserError(f"{self._source}: {name}: {problem}. {_COPY}")

    def get(self, key: str, kind: type[_T] | tuple[type[_T], ...], what: str) -> _T:
        value = self._data.get(key)
        if key not in self._data:
            raise self.error(key, "is missing")
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.error(key, f"must be {what}")
        return value

    def number(self, key: str) -> int:
        return self.get(key, int, "a whole number")

    def text(self, key: str) -> str:
        return self.get(key, str, "text")

    def base64(self, key: str) -> bytes:
        try:
            return base64.b64decode(self.text(key), validate=True)
        except (ValueError, binascii.Error) as e:
            raise self.error(key, "must be base64") from e

    def nested(self, key: str, data: object, known: tuple[str, ...]) -> _Fields:
        return _Fields(data, self._source, f"{self._prefix}{key}.", known)


def _genesis(top: _Fields) -> Genesis:
    if top.number("phantomband_genesis") != FORMAT:
        raise top.error("phantomband_genesis", f"must be {FORMAT}; a newer file needs a newer release")
    epochs = top.nested("epochs", top.get("epochs", dict, "a JSON object"), _EPOCHS)
    directories: list[object] = top.get("directories", list, "a list")
    try:
        genesis = Genesis(
            name=top.text("network"),
            test_network=top.get("test_network", bool, "true or false"),
            clock=EpochClock(*(epochs.number(key) for key in _EPOCHS)),
            min_relays=top.number("min_relays"),
            directories=tuple(
                _directory(top.nested(f"directories[{i}]", item, _DIRECTORY)) for i, item in enumerate(directories)
            ),
            terms=_terms(top.nested("terms", top.get("terms", dict, "a JSON object"), _TERMS)),
        )
    except UserError as e:
        if str(e).startswith(top._source):
            raise
        raise UserError(f"{top._source}: {e} {_COPY}") from e
    if top.text("network_id") != genesis.network_id.hex():
        raise top.error("network_id", f"does not match the other fields, which give {genesis.network_id.hex()}")
    return genesis


def _terms(fields: _Fields) -> Terms:
    work, rule = fields.get("work", (dict, NoneType), "a JSON object or null"), FREE
    parameters = None
    if work is not None:
        asked = fields.nested("work", work, _WORK)
        parameters = Parameters(asked.number("n"), asked.number("k"))
        rule = DifficultyRule(*(asked.number(key) for key in _WORK[2:]))
    return Terms(parameters, rule, fields.number("probation_epochs"), fields.number("notice_epochs"))


def _terms_json(terms: Terms) -> dict[str, object]:
    rule, work = terms.difficulty, None
    if terms.work is not None:
        values = (terms.work.n, terms.work.k, rule.floor, rule.ceiling, rule.expected, rule.window)
        work = dict(zip(_WORK, values))
    return {"work": work, "probation_epochs": terms.probation_epochs, "notice_epochs": terms.notice_epochs}


def _directory(fields: _Fields) -> DirectoryInfo:
    texts: list[object] = fields.get("addresses", list, "a list")
    try:
        return DirectoryInfo(
            nickname=fields.text("nickname"),
            identity=fields.base64("identity"),
            link_key=fields.base64("link_key"),
            addresses=tuple(_address(fields, text) for text in texts),
        )
    except Malformed as e:
        raise fields.error("", str(e)) from e


def _address(fields: _Fields, text: object) -> NodeAddress:
    try:
        return NodeAddress.parse(str(text))
    except (ValueError, Malformed) as e:
        raise fields.error("addresses", f"'{text}': {e}") from e


def _directory_json(directory: DirectoryInfo) -> dict[str, object]:
    return {
        "nickname": directory.nickname,
        "identity": base64.b64encode(directory.identity).decode(),
        "link_key": base64.b64encode(directory.link_key).decode(),
        "addresses": [address.text() for address in directory.addresses],
    }
