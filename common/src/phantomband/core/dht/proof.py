"""Proof that a contact owns its id: its identity key signs our nonce.

    proof = identity 1,984 | signature 3,373

The signature (context "dht-proof") covers nonce 16 | asker's node id 32 | the contact that proves itself. The hash
of the identity must be the contact's node id. So an id stands for keys, an answer for a live owner of them, and no
proof serves twice.
"""

from __future__ import annotations

from typing import Protocol

from phantomband.core.crypto.labels import SIGN_PROOF
from phantomband.core.crypto.sign import IDENTITY_PUBLIC_BYTES, IDENTITY_SIGNATURE_BYTES, IdentityPublicKey, Signer
from phantomband.core.dht.contact import Contact
from phantomband.core.errors import Forged, Malformed
from phantomband.core.ids import NodeId

PROOF_BYTES = IDENTITY_PUBLIC_BYTES + IDENTITY_SIGNATURE_BYTES


class Prover(Protocol):
    """Makes our proofs and checks others'. Dear: 0.2 to 1 ms each, so it is done once a contact."""

    def prove(self, own: Contact, nonce: bytes, asker: NodeId) -> bytes:
        """Returns: PROOF_BYTES bytes."""

    def check_untrusted(self, contact: Contact, nonce: bytes, asker: NodeId, proof: bytes) -> None:
        """Raises: Malformed: not a proof of `contact` for that nonce and asker."""


class IdentityProver:
    """The real one, with the node's identity key."""

    def __init__(self, key: Signer) -> None:
        self._key = key

    def prove(self, own: Contact, nonce: bytes, asker: NodeId) -> bytes:
        return self._key.public.raw + self._key.sign(nonce + asker + own.encode(), SIGN_PROOF)

    def check_untrusted(self, contact: Contact, nonce: bytes, asker: NodeId, proof: bytes) -> None:
        if len(proof) != PROOF_BYTES:
            raise Malformed(f"a proof has {PROOF_BYTES} bytes, not {len(proof)}")
        public = IdentityPublicKey(proof[:IDENTITY_PUBLIC_BYTES])
        if public.node_id != contact.node_id:
            raise Forged("the identity is not the contact's")
        public.verify(proof[IDENTITY_PUBLIC_BYTES:], nonce + asker + contact.encode(), SIGN_PROOF)
