"""The parts of obfs4 against values of other programs.

`obfs4_vectors.json` was recorded once: `elligator` from Monocypher 4 (maps of random values), `recorded` from
obfs4proxy 0.0.14 and lyrebird 0.8.1, whose server had the identity that stands there: a whole answer to a request of
ours, with the frames behind it, and a request of their client.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from phantomband.core.errors import Forged
from phantomband.transports.obfs4 import elligator
from phantomband.transports.obfs4.drbg import Drbg
from phantomband.transports.obfs4.elligator import HiddenKeys
from phantomband.transports.obfs4.framing import Opener
from phantomband.transports.obfs4.handshake import ClientHandshake, ServerHandshake
from phantomband.transports.obfs4.identity import Identity
from phantomband.transports.obfs4.replay import ReplayFilter
from siphash24 import siphash24

VECTORS = json.loads(Path(__file__).with_name("obfs4_vectors.json").read_text())
IDENTITY = Identity(bytes.fromhex(VECTORS["identity"]))
PROGRAMS = list(VECTORS["recorded"])


class Dice:
    """Random bytes from a fixed seed: each call the next ones."""

    def __init__(self, seed: int) -> None:
        import random

        self._random = random.Random(seed)

    def __call__(self, count: int) -> bytes:
        return self._random.randbytes(count)


def test_siphash_is_the_reference() -> None:
    """The vector of the SipHash paper, appendix A; and what the library's streaming gives."""
    key, message = bytes(range(16)), bytes(range(15))
    assert siphash24(message, key=key).digest() == bytes.fromhex("e545be4961ca29a1")
    streamed = siphash24(message[:7], key=key)
    streamed.digest()
    streamed.update(message[7:])
    assert streamed.digest() == bytes.fromhex("e545be4961ca29a1")


def test_a_block_is_the_hash_of_all_blocks_before() -> None:
    seed = bytes(range(24))
    drbg = Drbg(seed)
    first, second = drbg.block(), drbg.block()
    assert first == siphash24(seed[16:], key=seed[:16]).digest()
    assert second == siphash24(seed[16:] + first, key=seed[:16]).digest()


@pytest.mark.parametrize(("representative", "public"), VECTORS["elligator"]["map"])
def test_the_map(representative: str, public: str) -> None:
    assert elligator.reveal(bytes.fromhex(representative)).hex() == public


@pytest.mark.parametrize(("public", "tweak", "representative"), VECTORS["elligator"]["inverse"])
def test_the_inverse_map(public: str, tweak: int, representative: str | None) -> None:
    found = elligator.hide(int.from_bytes(bytes.fromhex(public), "little"), tweak)
    assert (found.hex() if found is not None else None) == representative


def test_what_is_hidden_is_revealed_and_works_as_a_key() -> None:
    dice = Dice(1)
    peer = X25519PrivateKey.from_private_bytes(dice(32))
    for _ in range(30):
        keys = elligator.generate(dice)
        assert elligator.reveal(keys.representative) == keys.public
        theirs = peer.exchange(X25519PublicKey.from_public_bytes(keys.public))
        assert theirs == keys.private.exchange(peer.public_key())


def test_keys_are_of_the_whole_curve_and_all_bits_are_used() -> None:
    """Representatives of points of the prime subgroup only, or with fixed bits, could be told from random bytes."""
    dice = Dice(2)
    pairs = [elligator.generate(dice) for _ in range(200)]
    dirty = sum(pair.public != pair.private.public_key().public_bytes_raw() for pair in pairs)
    assert 150 < dirty < 195  # seven of eight
    for bit in range(256):
        ones = sum(int.from_bytes(pair.representative, "little") >> bit & 1 for pair in pairs)
        assert 60 < ones < 140, f"bit {bit}"


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_recorded_server_is_understood(program: str) -> None:
    vector: dict[str, Any] = VECTORS["recorded"][program]
    handshake = ClientHandshake(IDENTITY.certificate, keys_of(vector), vector["now"], Dice(3))
    done = handshake.receive_untrusted(bytes.fromhex(vector["answer"]))
    assert done is not None
    opener = Opener(done.keys.to_client, Dice(4))
    assert opener.open_untrusted(done.rest) == b"spoken in the clear"
    assert opener.seed == IDENTITY.seed
    assert not opener.inside_frame


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_recorded_client_is_understood_once_and_within_an_hour(program: str) -> None:
    vector: dict[str, Any] = VECTORS["recorded"][program]
    hello, now = bytes.fromhex(vector["client_hello"]), vector["client_now"]
    seen, keys = ReplayFilter(), elligator.generate(Dice(5))

    def server() -> ServerHandshake:
        return ServerHandshake(IDENTITY, lambda: keys, seen, Dice(6))

    for hours in (-2, 2):
        with pytest.raises(Forged):
            server().receive_untrusted(hello, now + hours * 3600)
    assert server().receive_untrusted(hello, now) is not None
    with pytest.raises(Forged, match="replayed"):
        server().receive_untrusted(hello, now + 60)


def keys_of(vector: dict[str, Any]) -> HiddenKeys:
    secret = bytes.fromhex(vector["private"])
    u = elligator.dirty_public(secret)
    representative = elligator.hide(u, vector["tweak"])
    assert representative is not None
    return HiddenKeys(X25519PrivateKey.from_private_bytes(secret), u.to_bytes(32, "little"), representative)
