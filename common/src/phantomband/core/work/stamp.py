"""Stamps: Equihash solutions bound to one node, one network and one certified view, of a stated difficulty.

    challenge = network id 32 | node id 32 | epoch 8 | digest of that epoch's view 32
    stamp     = epoch 8 | nonce 16 | solution (equihash.py; 84 bytes for the public parameters)

The header of Equihash is challenge | nonce. Nobody knows a view's digest before it is certified, so nobody can make
stamps in advance. BLAKE2b(challenge | nonce | solution), personalised, must be below 2^256 / 2^bits: each bit doubles
the solutions that have to be found. That hash is looked at first, since it is the cheapest to look at.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from phantomband.core.errors import Malformed, UserError
from phantomband.core.ids import NodeId
from phantomband.core.work import equihash
from phantomband.core.work.equihash import Parameters

EPOCH_BYTES = 8
NONCE_BYTES = 16
DIGEST_BYTES = 32

TARGET_PERSON = b"pb-work-target-1"
"""BLAKE2b personalisation of the difficulty's hash."""

MAX_BITS = 32
"""More would take a machine years."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a stamp is made for."""

    network_id: bytes
    node_id: NodeId
    epoch: int
    view_digest: bytes

    def __post_init__(self) -> None:
        if len(self.network_id) != DIGEST_BYTES or len(self.view_digest) != DIGEST_BYTES:
            raise Malformed(f"a digest has {DIGEST_BYTES} bytes")
        if not 0 <= self.epoch < 2 ** (8 * EPOCH_BYTES):
            raise Malformed("an epoch has 64 bits")

    def encode(self) -> bytes:
        """104 bytes: with nonce and a hash's number they fill one block of BLAKE2b, so each hash is one compression."""
        return self.network_id + self.node_id + self.epoch.to_bytes(EPOCH_BYTES, "big") + self.view_digest


def stamp_bytes(parameters: Parameters) -> int:
    """Size of every stamp with these parameters."""
    return EPOCH_BYTES + NONCE_BYTES + parameters.solution_bytes


def epoch_untrusted(stamp: bytes, parameters: Parameters) -> int:
    """The epoch that a stamp claims to be made for.

    Raises:
        Malformed: wrong size.
    """
    if len(stamp) != stamp_bytes(parameters):
        raise Malformed(f"a stamp has {stamp_bytes(parameters)} bytes, not {len(stamp)}")
    return int.from_bytes(stamp[:EPOCH_BYTES], "big")


def encode_stamp(challenge: Challenge, nonce: bytes, solution: bytes) -> bytes:
    """Puts a stamp together; `meets` and `equihash.verify_untrusted` say whether it is one."""
    return challenge.epoch.to_bytes(EPOCH_BYTES, "big") + nonce + solution


def meets(challenge: Challenge, nonce_and_solution: bytes, bits: int) -> bool:
    """Whether the hash over challenge and solution is below the target of `bits`.

    Raises:
        UserError: bits outside 0 to 32.
    """
    if not 0 <= bits <= MAX_BITS:
        raise UserError(f"Difficulty is 0 to {MAX_BITS} bits.")
    if not bits:
        return True
    hashed = hashlib.blake2b(challenge.encode() + nonce_and_solution, digest_size=DIGEST_BYTES, person=TARGET_PERSON)
    return not int.from_bytes(hashed.digest(), "big") >> (8 * DIGEST_BYTES - bits)


def verify_untrusted(challenge: Challenge, stamp: bytes, parameters: Parameters, bits: int = 0) -> None:
    """Returns if `stamp` was made for `challenge` with at least `bits` of difficulty.

    Raises:
        Malformed: size, epoch, difficulty, or the solution itself is wrong.
    """
    if epoch_untrusted(stamp, parameters) != challenge.epoch:
        raise Malformed("the stamp was made for another epoch")
    paid = stamp[EPOCH_BYTES:]
    if not meets(challenge, paid, bits):
        raise Malformed(f"the stamp has less than {bits} bits of difficulty")
    equihash.verify_untrusted(challenge.encode() + paid[:NONCE_BYTES], paid[NONCE_BYTES:], parameters)
