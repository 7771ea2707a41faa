"""Fuzz target: every directory document. Run: `make fuzz TARGETS=descriptor`."""

from __future__ import annotations

from phantomband.core.errors import Malformed, UserError
from phantomband.core.netdir.ballot import Echo, ViewSignature, Vote
from phantomband.core.netdir.certified import CertifiedView
from phantomband.core.netdir.descriptor import decode_unverified
from phantomband.core.netdir.genesis_file import parse_genesis
from phantomband.core.netdir.replies import decode_reply_untrusted
from phantomband.core.netdir.requests import decode_request_untrusted
from phantomband.core.netdir.view import View

DECODERS = (
    decode_unverified,
    View.decode_untrusted,
    CertifiedView.decode_untrusted,
    Vote.decode_untrusted,
    Echo.decode_untrusted,
    ViewSignature.decode_untrusted,
    decode_request_untrusted,
    decode_reply_untrusted,
)


def one_input(data: bytes) -> None:
    """Every decoder gives a value or raises Malformed."""
    for decode in DECODERS:
        try:
            decode(data)
        except Malformed:
            pass
    try:
        parse_genesis(data, "fuzz")
    except UserError:
        pass
