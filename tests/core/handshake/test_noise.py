"""Noise: the published vectors of two other implementations, and what hfs adds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from phantomband.core.crypto.dh import DhKey
from phantomband.core.crypto.kem import encapsulate_untrusted
from phantomband.core.errors import Bug, Forged, Malformed
from phantomband.core.handshake.noise import CipherState, Handshake, Keys, Protocol

VECTORS = Path(__file__).parents[2] / "vectors"
PUBLISHED = [
    vector
    for name in ("noise_cacophony.json", "noise_snow.json")
    for vector in json.loads((VECTORS / name).read_text())["vectors"]
]
HFS = [f"Noise_{p}_25519+MLKEM768_AESGCM_SHA256" for p in ("NKhfs", "XKhfs", "NKhfs+psk0", "XKhfs+psk0")]


def side(vector: dict[str, Any], role: str) -> Handshake:
    def field(name: str) -> bytes | None:
        value = vector.get(f"{role}_{name}")
        return bytes.fromhex(value) if value else None

    static, ephemeral = field("static"), field("ephemeral")
    assert ephemeral is not None
    return Handshake(
        Protocol.parse(vector["protocol_name"]),
        role == "init",
        field("prologue") or b"",
        Keys(
            random=lambda n: ephemeral[:n],
            own_static=DhKey(static) if static else None,
            peer_static=field("remote_static"),
            psks=tuple(bytes.fromhex(p) for p in vector.get(f"{role}_psks", ())),
        ),
    )


@pytest.mark.parametrize("vector", PUBLISHED, ids=lambda v: v["protocol_name"])
def test_published_vector(vector: dict[str, Any]) -> None:
    sides = [side(vector, "init"), side(vector, "resp")]
    messages = [(bytes.fromhex(m["payload"]), bytes.fromhex(m["ciphertext"])) for m in vector["messages"]]
    count = len(Protocol.parse(vector["protocol_name"]).messages)
    for i, (payload, ciphertext) in enumerate(messages[:count]):
        assert sides[i % 2].write(payload) == ciphertext
        assert sides[1 - i % 2].read_untrusted(ciphertext) == payload
        assert Protocol.parse(vector["protocol_name"]).message_bytes(i, len(payload)) == len(ciphertext)
    for handshake in sides:
        assert handshake.finished
        assert handshake.hash.hex() == vector.get("handshake_hash", handshake.hash.hex())
    ciphers = [handshake.split() for handshake in sides]
    for i, (payload, ciphertext) in enumerate(messages[count:], count):
        assert ciphers[i % 2][i % 2].seal(payload) == ciphertext
        assert ciphers[1 - i % 2][i % 2].open_untrusted(ciphertext) == payload


def test_all_published_vectors_are_there() -> None:
    names = {v["protocol_name"].split("_")[1] for v in PUBLISHED}
    assert names == {"NK", "NK1", "NKpsk0", "NKpsk2", "XK", "XK1", "XKpsk3", "XKpsk0+psk3"}
    assert len(PUBLISHED) == 64


def hybrid(name: str, random: Callable[[int], bytes], psk: bytes = b"p" * 32) -> tuple[Handshake, Handshake]:
    protocol = Protocol.parse(name)
    client, server = DhKey(b"c" * 32), DhKey(b"s" * 32)
    psks = (psk,) if "psk" in name else ()
    own = client if "XK" in name else None
    return (
        Handshake(protocol, True, b"x", Keys(random, own, server.public, psks)),
        Handshake(protocol, False, b"x", Keys(random, server, None, (b"p" * 32,) * len(psks), encapsulate_untrusted)),
    )


@pytest.mark.parametrize("name", HFS)
def test_hfs_round_trip(name: str, random: Callable[[int], bytes]) -> None:
    sides = hybrid(name, random)
    for i in range(len(Protocol.parse(name).messages)):
        message = sides[i % 2].write(b"pay" * i)
        assert len(message) == Protocol.parse(name).message_bytes(i, 3 * i)
        assert sides[1 - i % 2].read_untrusted(message) == b"pay" * i
    assert sides[0].hash == sides[1].hash
    assert sides[1].peer_static == (DhKey(b"c" * 32).public if "XK" in name else None)
    (a, b), (c, d) = (s.split() for s in sides)
    assert (a.key, b.key) == (c.key, d.key)
    assert a.key != b.key


@pytest.mark.parametrize("name", HFS)
def test_hfs_tokens_stand_where_the_extension_puts_them(name: str) -> None:
    messages = Protocol.parse(name).messages
    assert messages[0][-3:] == ("e", "es", "e1")
    assert messages[1] == ("e", "ee", "ekem1")
    assert messages[2:] == ((("s", "se"),) if "XK" in name else ())


def test_wrong_psk(random: Callable[[int], bytes]) -> None:
    client, server = hybrid("Noise_NKhfs+psk0_25519+MLKEM768_AESGCM_SHA256", random, psk=b"q" * 32)
    with pytest.raises(Forged):
        server.read_untrusted(client.write(b""))


@pytest.mark.parametrize("junk", [b"", bytes(31), bytes(32), bytes(2000), b"\xff" * 2000])
def test_junk(junk: bytes, random: Callable[[int], bytes]) -> None:
    for name in HFS:
        with pytest.raises(Malformed):
            hybrid(name, random)[1].read_untrusted(junk)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Noise_NN_25519_AESGCM_SHA256",
        "Noise_NK_25519+MLKEM768_AESGCM_SHA256",
        "Noise_NKpsk3_25519_AESGCM_SHA256",
    ],
)
def test_unknown_names(name: str) -> None:
    with pytest.raises(ValueError, match="unknown Noise"):
        Protocol.parse(name)


def test_out_of_turn(random: Callable[[int], bytes]) -> None:
    client, server = hybrid(HFS[0], random)
    with pytest.raises(Bug):
        server.write(b"")
    with pytest.raises(Bug):
        client.split()


def test_counter_never_wraps() -> None:
    cipher = CipherState("AESGCM", bytes(32))
    cipher.nonce = 2**64 - 1
    with pytest.raises(Bug):
        cipher.seal(b"")
