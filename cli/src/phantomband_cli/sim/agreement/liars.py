"""What a malicious directory of the set sends instead: another message to each half of the others."""

from __future__ import annotations

from dataclasses import replace

from phantomband.core.crypto.labels import SIGN_VIEW
from phantomband.core.crypto.sign import IdentityKey
from phantomband.core.netdir.ballot import Echo, ViewSignature, Vote, sign_echo, sign_vote
from phantomband.core.netdir.voting_events import BallotKind

from phantomband_cli.sim.agreement.scenario import Lie


def told(lie: Lie | None, half: int, kind: BallotKind, data: bytes, key: IdentityKey) -> bytes:
    """What goes to that half in place of `data`: half 0 hears the truth."""
    match lie, kind:
        case Lie.VOTE, BallotKind.VOTE if half:
            vote = Vote.decode_untrusted(data)
            return sign_vote(replace(vote, time=vote.time + 1), key)
        case Lie.ECHO, BallotKind.ECHO if half:
            echo = Echo.decode_untrusted(data)
            return sign_echo(replace(echo, held=echo.held[len(echo.held) // 2 :]), key)
        case Lie.SIGNATURE, BallotKind.SIGNATURE if half:
            share = ViewSignature.decode_untrusted(data)
            other = replace(share, view=bytes(byte ^ 1 for byte in share.view))
            return replace(other, signature=key.sign(other.message(), SIGN_VIEW)).encode()
    return data
