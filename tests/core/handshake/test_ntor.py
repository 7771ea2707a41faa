"""The circuit handshake: published vector, our own vectors, and everything that must be refused."""

from __future__ import annotations

import hashlib
import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st
from phantomband.core.crypto.dh import DhKey
from phantomband.core.crypto.kem import encapsulate_untrusted
from phantomband.core.errors import Forged, Malformed
from phantomband.core.handshake import ntor3
from phantomband.core.handshake.ntor import (
    CLIENT_BYTES,
    MAX_MESSAGE_BYTES,
    RELAY_BYTES,
    ClientHandshake,
    OnionKey,
    RelayKeys,
    Responder,
    client_start,
    pad,
    unpad_untrusted,
)
from phantomband.core.handshake.replay import ReplayCache
from phantomband.core.ids import HopNumber, NodeId

ROOT = Path(__file__).parents[2]
OURS = json.loads((ROOT / "vectors" / "ntor3_mlkem768.json").read_text())["vectors"]
fuzz = runpy.run_path(str(ROOT / "fuzz" / "fuzz_handshakes.py"))["one_input"]

NETWORK, NODE = b"w" * 32, NodeId(b"n" * 32)
CURRENT, PREVIOUS = OnionKey(b"c" * 32), OnionKey(b"p" * 32)
Random = Callable[[int], bytes]


def start(
    random: Random, key: OnionKey = CURRENT, network: bytes = NETWORK, node: NodeId = NODE, hop: int = 2
) -> tuple[ClientHandshake, bytes]:
    return client_start(RelayKeys(node, key.public), network, HopNumber(hop), b"parameters", random)


def responder(replay: ReplayCache | None = None) -> Responder:
    return Responder(NODE, [CURRENT, PREVIOUS], NETWORK, replay)


def answer(random: Random, message: bytes, server: Responder | None = None, hop: int = 2) -> bytes:
    served = server or responder()
    return served.answer(message, hop, lambda _: b"agreed", random, encapsulate_untrusted)[0]


def test_proposal_332_vector() -> None:
    """With the KEM off this is ntor v3, byte for byte."""
    text = json.loads((ROOT / "vectors" / "ntor3_prop332.json").read_text())
    v = {k: bytes.fromhex(value) for k, value in text.items() if k not in ("source", "protoid")}
    variant = ntor3.Variant(text["protoid"].encode(), kem=False)
    b, x, y = DhKey(v["b"]), DhKey(v["x"]), DhKey(v["y"])
    relay = ntor3.Relay(v["id"], b.public, v["verification"])
    state, c = ntor3.client_start(variant, relay, x, None, v["client_message"])
    assert c == v["client_handshake"]
    opened = ntor3.server_open_untrusted(variant, relay, b, ntor3.ClientMessage.decode_untrusted(variant, c))
    assert opened.message == v["client_message"]
    s, keys = ntor3.server_answer(variant, opened, y, None, v["server_message"], 256)
    assert (s, keys) == (v["server_handshake"], v["keys"])
    assert ntor3.client_finish_untrusted(state, s, 256) == (v["server_message"], v["keys"])


def replayed(random: list[str]) -> Random:
    """The recorded random strings, each asked for in its size."""
    left = [bytes.fromhex(r) for r in random]

    def take(size: int) -> bytes:
        out = left.pop(0)
        assert len(out) == size
        return out

    return take


@pytest.mark.parametrize("text", OURS, ids=lambda v: f"hop {v['hop']}")
def test_our_vectors(text: dict[str, Any]) -> None:
    v = {k: bytes.fromhex(value) for k, value in text.items() if isinstance(value, str)}
    relay = RelayKeys(NodeId(v["node_id"]), v["onion_public"])
    random = replayed(text["client_random_x_seed"])
    state, c = client_start(relay, v["network_id"], HopNumber(text["hop"]), v["client_message"], random)
    assert c == v["c"]
    server = Responder(relay.node_id, [OnionKey(v["onion_private"])], v["network_id"], None)

    def encapsulate(public: bytes) -> tuple[bytes, bytes]:
        assert public == v["kem_public"]
        return v["kem_secret"], v["kem_ciphertext"]

    random = replayed(text["relay_random_y"])
    s, keys, message = server.answer(c, text["hop"], lambda _: v["relay_message"], random, encapsulate)
    assert (s, message) == (v["s"], v["client_message"])
    assert (keys.forward, keys.backward, keys.exporter) == (v["kf"], v["kb"], v["kh"])
    assert state.finish(s) == (keys, v["relay_message"])


@pytest.mark.parametrize("key", [CURRENT, PREVIOUS])
def test_round_trip(key: OnionKey, random: Random) -> None:
    state, c = start(random, key)
    seen: list[bytes] = []

    def reply(message: bytes) -> bytes:
        seen.append(message)
        return b"agreed"

    s, keys, message = responder().answer(c, 2, reply, random, encapsulate_untrusted)
    assert (len(c), len(s)) == (CLIENT_BYTES, RELAY_BYTES) == (1568, 1408)
    assert seen == [message] == [b"parameters"]
    assert state.finish(s) == (keys, b"agreed")
    assert len({keys.forward, keys.backward, keys.exporter}) == 3
    assert keys.forward.hex() not in repr(keys)


def test_our_vector_computed_by_hand_from_the_reference() -> None:
    """The construction once more, straight down the page: where the KEM's three insertions stand."""
    v = {k: bytes.fromhex(value) for k, value in OURS[0].items() if isinstance(value, str)}
    protoid, ident, big_b = b"phantomband-ntor3-x25519-mlkem768-sha3-1", v["node_id"], v["onion_public"]

    def enc(value: bytes) -> bytes:
        return len(value).to_bytes(8, "big") + value

    def h(name: bytes, data: bytes) -> bytes:
        return hashlib.sha3_256(enc(protoid + b":" + name) + data).digest()

    big_x, ek, y, ct = v["c"][64:96], v["c"][96:1280], v["s"][:32], v["s"][32:1120]
    ver = enc(v["network_id"] + bytes((OURS[0]["hop"],)))
    b = X25519PrivateKey.from_private_bytes(v["onion_private"])
    small_y = X25519PrivateKey.from_private_bytes(bytes.fromhex(OURS[0]["relay_random_y"][0]))
    xb, xy = (key.exchange(X25519PublicKey.from_public_bytes(big_x)) for key in (b, small_y))
    phase1 = enc(protoid + b":kdf_phase1") + xb + ident + big_x + ek + big_b + protoid + ver
    mac_key = hashlib.shake_256(phase1).digest(64)[32:]
    mac = h(b"msg_mac", enc(mac_key) + ident + big_b + big_x + ek + v["c"][1280:1536])
    assert v["c"] == ident + big_b + big_x + ek + v["c"][1280:1536] + mac
    secret = xy + xb + enc(v["kem_secret"]) + ident + big_b + big_x + ek + y + ct + protoid + ver
    final = enc(protoid + b":kdf_final") + h(b"key_seed", secret)
    assert hashlib.shake_256(final).digest(128)[32:] == v["kf"] + v["kb"] + v["kh"]
    sealed = v["s"][1152:]
    auth = h(b"verify", secret) + ident + big_b + y + ct + big_x + ek + mac + enc(sealed) + protoid + b"Server"
    assert v["s"] == y + ct + h(b"auth_final", auth) + sealed


def test_the_wrong_relay_network_hop_or_key(random: Random) -> None:
    stranger = OnionKey(b"z" * 32)
    for message in (
        start(random, network=b"v" * 32)[1],
        start(random, node=NodeId(b"m" * 32))[1],
        start(random, hop=3)[1],
        start(random, key=stranger)[1],
    ):
        with pytest.raises(Malformed):
            answer(random, message)


@pytest.mark.parametrize("hop", [-1, 0, 9, 256])
def test_hops_out_of_range(hop: int, random: Random) -> None:
    with pytest.raises(Malformed):
        answer(random, start(random)[1], hop=hop)


@pytest.mark.parametrize("size", [0, CLIENT_BYTES - 1, CLIENT_BYTES + 1])
def test_wrong_sizes(size: int, random: Random) -> None:
    state, c = start(random)
    with pytest.raises(Malformed):
        answer(random, (c + b"\0")[:size])
    with pytest.raises(Malformed):
        state.finish(bytes(size))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, CLIENT_BYTES * 8 - 1))
def test_any_flipped_bit_of_c(bit: int) -> None:
    message = bytearray(HONEST_C)
    message[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Malformed):
        answer(SOURCE, bytes(message))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, RELAY_BYTES * 8 - 1))
def test_any_flipped_bit_of_s(bit: int) -> None:
    message = bytearray(HONEST_S)
    message[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Malformed):
        HONEST.finish(bytes(message))


def test_an_answer_to_another_message(random: Random) -> None:
    state, _ = start(random)
    with pytest.raises(Forged):
        state.finish(answer(random, start(random)[1]))


def test_small_order_x_and_y(random: Random) -> None:
    state, c = start(random)
    with pytest.raises(Forged):
        answer(random, c[:64] + bytes(32) + c[96:])
    with pytest.raises(Forged):
        state.finish(bytes(32) + answer(random, c)[32:])
    with pytest.raises(Forged):
        client_start(RelayKeys(NODE, bytes(32)), NETWORK, HopNumber(1), b"", random)


def test_a_bad_kem_key_under_a_good_mac(random: Random) -> None:
    """The client vouches for its own junk EK: refused by FIPS 203's modulus check."""

    class Junk:
        public = b"\xff" * 1184

    relay = ntor3.Relay(NODE, CURRENT.public, NETWORK + b"\2")
    junk: Any = Junk()
    c = ntor3.client_start(ntor3.HYBRID, relay, DhKey(b"x" * 32), junk, pad(b""))[1]
    with pytest.raises(Malformed):
        answer(random, c)


def test_nothing_costly_or_random_before_the_mac(random: Random) -> None:
    """PROTOCOL.md section 2: only then ephemeral y and Encaps."""

    def never(_: object) -> Any:
        raise AssertionError

    _, c = start(random)
    with pytest.raises(Forged):
        responder().answer(c[:-1] + bytes((c[-1] ^ 1,)), 2, never, never, never)


def test_replay_is_refused_for_each_key_by_itself(random: Random) -> None:
    cache = ReplayCache()
    server = responder(cache)
    _, c = start(random)
    answer(random, c, server)
    with pytest.raises(Forged):
        answer(random, c, server)
    with pytest.raises(Forged):
        server.admit(c, 2)
    answer(random, start(random, PREVIOUS)[1], server)
    assert len(cache) == 2
    Responder(NODE, [CURRENT], NETWORK, cache)
    assert len(cache) == 1


def test_what_is_refused_before_x_is_not_remembered(random: Random) -> None:
    cache = ReplayCache()
    _, c = start(random)
    for message, hop in ((c[:-1], 2), (c, 9), (b"\0" + c[1:], 2), (c[:32] + b"\0" + c[33:], 2)):
        with pytest.raises(Malformed):
            responder(cache).admit(message, hop)
    assert len(cache) == 0


def test_the_replay_cache_is_bounded_and_keeps_the_latest() -> None:
    cache = ReplayCache(limit=100)
    entries = [i.to_bytes(8, "big") + bytes(24) for i in range(1000)]
    for entry in entries:
        cache.add_untrusted(b"key", entry)
        assert len(cache) <= 100
    for entry in entries[-50:]:
        with pytest.raises(Forged):
            cache.add_untrusted(b"key", entry)
    cache.add_untrusted(b"key", entries[0])


@given(st.binary(max_size=MAX_MESSAGE_BYTES))
def test_padding_round_trip(message: bytes) -> None:
    assert len(pad(message)) == 256
    assert unpad_untrusted(pad(message)) == message


def test_padding_that_is_refused() -> None:
    with pytest.raises(ValueError, match="254"):
        pad(bytes(255))
    for padded in (b"", b"\0", b"\xff" * 256, pad(b"a")[:-1] + b"x", b"\0\xff" + bytes(254)):
        with pytest.raises(Malformed):
            unpad_untrusted(padded)


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=1600))
def test_fuzz(data: bytes) -> None:
    fuzz(data)


def _source(size: int) -> bytes:
    return bytes(range(1, size + 1))


SOURCE: Random = _source
HONEST, HONEST_C = start(SOURCE)
HONEST_S = answer(SOURCE, HONEST_C)
