"""A node's token: what opens sessions at its `doh` port. Public towards clients, secret towards everyone else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from phantomband.core.errors import UserError
from phantomband.transports import kept
from phantomband.transports.doh.packet import TOKEN_BYTES

KEY_FILE = "doh.key"


def load_or_create(path: Path, random: Callable[[int], bytes]) -> bytes:
    """The 32 bytes in the file `path`; new ones if there is no such file, with mode 0600.

    Raises:
        UserError: others may read the file, or it is not of this form.
    """
    token = kept.load_or_create(path, lambda: random(TOKEN_BYTES))
    if len(token) != TOKEN_BYTES:
        raise UserError(
            f"{path}: has {len(token)} bytes, a doh token has {TOKEN_BYTES}. Restore it, or remove it for a new one: "
            "clients that have the old one then cannot connect"
        )
    return token
