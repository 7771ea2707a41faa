"""The identity of an obfs4 server in obfs4proxy's files, so that a bridge can change between the two programs.

    obfs4_state.json        node-id, private-key, public-key, drbg-seed (hex), iat-mode
    obfs4_bridgeline.txt    the bridge line, for the operator

Options of the parent are stronger than the file, and are written into it: `node-id`, `private-key` and `drbg-seed`
together, and `iat-mode`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from phantomband.core.errors import UserError
from phantomband.runtime.keystore import write_whole
from phantomband.runtime.state_files import DAMAGE
from phantomband.transports.obfs4.elligator import RandomSource
from phantomband.transports.obfs4.identity import Identity, new_secret
from phantomband.transports.obfs4.shaper import IatMode

STATE_FILE = "obfs4_state.json"
LINE_FILE = "obfs4_bridgeline.txt"

PARTS = {"node-id": 20, "private-key": 32, "drbg-seed": 24}
"""Of an identity, in the order of our secret; bytes."""

LINE = """\
# obfs4 torrc client bridge line
#
# This file is made anew at each start; editing it has no effect. Before you give the line away, put in:
#  <IP ADDRESS>   the public IP address of this bridge
#  <PORT>         the TCP port on which it listens for obfs4
#  <FINGERPRINT>  the bridge's fingerprint

Bridge obfs4 <IP ADDRESS>:<PORT> <FINGERPRINT> cert={cert} iat-mode={mode}
"""


def load(folder: Path, options: Mapping[str, str], random: RandomSource) -> tuple[Identity, IatMode]:
    """The server's identity and mode: of the options, else of the file, else new; both files are written.

    Raises:
        UserError: an option or the file cannot be used.
    """
    unknown = set(options) - set(PARTS) - {"iat-mode"}
    if unknown:
        raise UserError(f"obfs4 has no option {min(unknown)}; there are {', '.join(PARTS)}, iat-mode")
    stored = _read(folder / STATE_FILE)
    given = [name for name in PARTS if name in options]
    if given and len(given) < len(PARTS):
        raise UserError(f"of {', '.join(PARTS)} all or none must be given")
    if given:
        secret = b"".join(_hex(name, options[name]) for name in PARTS)
    elif stored:
        secret = b"".join(_hex(name, str(stored.get(name, ""))) for name in PARTS)
    else:
        secret = new_secret(random)
    text = str(options.get("iat-mode", stored.get("iat-mode", 0)))
    if text not in ("0", "1", "2"):
        raise UserError("iat-mode must be 0, 1 or 2")
    who, mode = Identity(secret), IatMode(int(text))
    _write(folder, who, secret, mode)
    return who, mode


def _read(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, *DAMAGE):
        found = None
    if not isinstance(found, dict):
        raise UserError(f"{STATE_FILE} cannot be read. Restore it, or remove it for a new identity")
    return found


def _hex(name: str, text: str) -> bytes:
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != PARTS[name]:
        raise UserError(f"obfs4: {name} must be {2 * PARTS[name]} hex digits")
    return value


def _write(folder: Path, who: Identity, secret: bytes, mode: IatMode) -> None:
    at, state = 0, {}
    for name, size in PARTS.items():
        state[name], at = secret[at : at + size].hex(), at + size
    state["public-key"] = who.certificate.public.hex()
    try:
        write_whole(folder / STATE_FILE, json.dumps({**state, "iat-mode": int(mode)}).encode())
        write_whole(folder / LINE_FILE, LINE.format(cert=who.certificate.text, mode=int(mode)).encode())
    except OSError as e:
        raise UserError(f"the state directory cannot be written ({e.strerror})") from None
