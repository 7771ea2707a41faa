"""The one registry of protocol names and KDF labels: every string that separates one use of a primitive
from another.

Each stands here once and is used for one purpose, or two uses of one key could produce the same bytes.
`tests` checks that no label equals another or begins with another.
"""

from __future__ import annotations

from typing import Final

NTOR3_PROTOID: Final = b"phantomband-ntor3-x25519-mlkem768-sha3-1"
"""PROTOID of the circuit handshake (PROTOCOL.md section 2); `tweak` derives its labels."""

NTOR3_TWEAKS: Final = ("msg_mac", "kdf_phase1", "key_seed", "verify", "kdf_final", "auth_final")
"""Suffixes of the six tweaks of Tor proposal 332, each appended to PROTOID behind a colon."""

LINK_PROLOGUE: Final = b"pb-link-1"
"""First bytes of the Noise prologue of a link: names the version of the link protocol."""

LINK_SUITE: Final = "25519+MLKEM768_AESGCM_SHA256"
"""Noise algorithms of every link; the pattern stands before it in the Noise protocol name."""

ONION_RATCHET: Final = b"pb-onion-1:ratchet"
"""KDF label of the onion layer's ratchet (PROTOCOL.md section 3)."""

NODE_ID: Final = b"pb-identity-1"
"""First part of what every identity signature covers."""

SIGN_DESCRIPTOR: Final = b"descriptor"
"""Signature context: a node's descriptor."""

SIGN_VIEW: Final = b"view"
"""Signature context: a directory's share of a certified view."""

SIGN_VOTE: Final = b"vote"
"""Signature context: a directory's vote in an epoch."""

SIGN_ECHO: Final = b"echo"
"""Signature context: the vote hashes that a directory holds."""

SIGN_RECORD: Final = b"dht-record"
"""Signature context: a record of the directories' table."""

SIGN_PROOF: Final = b"dht-proof"
"""Signature context: a directory proves to another who it is."""

SIGN_SET_CHANGE: Final = b"set-change"
"""Signature context: a change of the directory set."""

SIGN_SUCCESSION: Final = b"succession"
"""Signature context: an identity names the one that comes after it."""

SIGN_GENERAL: Final = b"general"
"""Signature context where nothing narrower is named."""


def tweak(protoid: bytes, suffix: str) -> bytes:
    """`protoid:suffix`, a tweak of Tor proposal 332."""
    return protoid + b":" + suffix.encode()


def registry() -> tuple[bytes, ...]:
    """Every label that goes into a hash, KDF or signature."""
    return (
        *(tweak(NTOR3_PROTOID, suffix) for suffix in NTOR3_TWEAKS),
        LINK_PROLOGUE,
        LINK_SUITE.encode(),
        ONION_RATCHET,
        NODE_ID,
        SIGN_DESCRIPTOR,
        SIGN_VIEW,
        SIGN_VOTE,
        SIGN_ECHO,
        SIGN_RECORD,
        SIGN_PROOF,
        SIGN_SET_CHANGE,
        SIGN_SUCCESSION,
        SIGN_GENERAL,
    )
