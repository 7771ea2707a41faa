"""Writes our own vectors: circuit handshake, link, cells, onion layers, streams.

Run: python tests/vectors/make_vectors.py

Everything is deterministic but ML-KEM's Encaps, whose randomness no interface lets us choose: a ciphertext
that stands in the present file and opens to the shared secret that stands beside it is kept, so a second
run changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import shake_256
from pathlib import Path
from typing import Any

from phantomband.core.cell import BODY_BYTES, CELL_BYTES, LINK_CIRCUIT, Command
from phantomband.core.cell import encode as encode_cell
from phantomband.core.circuit.batch import encode_run
from phantomband.core.circuit.messages import encode_create, encode_extend
from phantomband.core.crypto.kem import Encapsulate, encapsulate_untrusted
from phantomband.core.dircall import encode_cells
from phantomband.core.handshake.ntor import OnionKey, RelayKeys, Responder, client_start
from phantomband.core.ids import HopNumber, LinkId, NodeId
from phantomband.core.link import Cells, Link, LinkKey, Send, dial, listen
from phantomband.core.link.records import REKEY_EVERY, Opener, Sealer
from phantomband.core.onion import OWN, RATCHET_CELLS, RELAYED, Layer, message_room, sealed_bytes
from phantomband.core.stream.congestion import Congestion, CongestionParameters
from phantomband.core.stream.messages import (
    Answer,
    EndReason,
    Kind,
    Message,
    encode,
    encode_answers,
    encode_pace,
    encode_target,
    target,
)

HERE = Path(__file__).parent
NETWORK_ID = bytes(range(32))
NODE = NodeId(bytes(range(32, 64)))

Vector = dict[str, Any]


def stream(label: str) -> Callable[[int], bytes]:
    """A `RandomSource` that gives the bytes of SHAKE256(label) in order."""
    data, at = shake_256(label.encode()).digest(4096), 0

    def random(size: int) -> bytes:
        nonlocal at
        at += size
        return data[at - size : at]

    return random


def recorded(random: Callable[[int], bytes], into: list[str]) -> Callable[[int], bytes]:
    def take(size: int) -> bytes:
        out = random(size)
        into.append(out.hex())
        return out

    return take


def kept(old: Vector, into: Vector) -> Encapsulate:
    """Encapsulates as the old vector did, if it was to the same key."""

    def encapsulate(public: bytes) -> tuple[bytes, bytes]:
        if old.get("kem_public") == public.hex():
            secret, ciphertext = bytes.fromhex(old["kem_secret"]), bytes.fromhex(old["kem_ciphertext"])
        else:
            secret, ciphertext = encapsulate_untrusted(public)
        into.update(kem_public=public.hex(), kem_secret=secret.hex(), kem_ciphertext=ciphertext.hex())
        return secret, ciphertext

    return encapsulate


def ntor_vector(old: Vector, hop: int, client_message: bytes, relay_message: bytes) -> Vector:
    onion = OnionKey.generate(stream(f"onion {hop}"))
    vector: Vector = {"network_id": NETWORK_ID.hex(), "node_id": NODE.hex(), "hop": hop}
    vector |= {"onion_private": onion.private_bytes().hex(), "onion_public": onion.public.hex()}
    vector |= {"client_message": client_message.hex(), "relay_message": relay_message.hex()}
    client_random: list[str] = []
    relay_random: list[str] = []
    relay = RelayKeys(NODE, onion.public)
    random = recorded(stream(f"client {hop}"), client_random)
    state, c = client_start(relay, NETWORK_ID, HopNumber(hop), client_message, random)
    responder = Responder(NODE, [onion], NETWORK_ID, None)
    s, keys, _ = responder.answer(
        c, hop, lambda _: relay_message, recorded(stream(f"relay {hop}"), relay_random), kept(old, vector)
    )
    if state.finish(s) != (keys, relay_message):
        raise SystemExit("the two sides differ")
    vector |= {
        "client_random_x_seed": client_random,
        "relay_random_y": relay_random,
        "c": c.hex(),
        "s": s.hex(),
    }
    return vector | {"kf": keys.forward.hex(), "kb": keys.backward.hex(), "kh": keys.exporter.hex()}


def link_vector(old: Vector, name: str, dialer_key: LinkKey | None, psk: bytes | None) -> Vector:
    key = LinkKey.generate(stream("listener key"))
    vector: Vector = {"protocol": name, "network_id": NETWORK_ID.hex(), "node_id": NODE.hex()}
    vector |= {"listener_private": key.private_bytes().hex(), "listener_public": key.public.hex()}
    vector |= {"dialer_private": dialer_key and dialer_key.private_bytes().hex(), "psk": psk and psk.hex()}
    dialer_random: list[str] = []
    listener_random: list[str] = []
    dialer = dial(NETWORK_ID, NODE, key.public, dialer_key, recorded(stream(f"d {name}"), dialer_random), psk)
    random = recorded(stream(f"l {name}"), listener_random)
    listener = listen(NETWORK_ID, NODE, key, random, kept(old, vector), psk)
    messages = exchange(dialer, listener)
    vector |= {
        "dialer_random_e_seed": dialer_random,
        "listener_random_e": listener_random,
        "messages": messages,
    }
    cells = bytes(i % 251 for i in range(2 * CELL_BYTES))
    forward, backward = dialer.seal(cells), listener.seal(cells[:CELL_BYTES])
    if listener.receive(forward) != [Cells(bytearray(cells))]:
        raise SystemExit("the two sides differ")
    return vector | {
        "cells": cells.hex(),
        "forward_2_cells": forward.hex(),
        "backward_1_cell": backward.hex(),
    }


def exchange(dialer: Link, listener: Link) -> list[str]:
    """Runs the handshake; returns its messages in order."""
    messages, ends = [dialer.start()], (listener, dialer)
    for i, message in enumerate(iter(messages)):
        messages += [event.data for event in ends[i % 2].receive(message) if isinstance(event, Send)]
    return [message.hex() for message in messages]


def rekey_vector() -> Vector:
    key, cell = stream("rekey")(32), bytes(range(256)) * (CELL_BYTES // 256)
    sealer, counter = Sealer(key, REKEY_EVERY - 2), REKEY_EVERY - 2
    records = [sealer.seal(cell).hex() for _ in range(2)]
    opener = Opener(key, counter)
    if opener.open_untrusted(bytes.fromhex("".join(records))) != cell * 2:
        raise SystemExit("the two sides differ")
    return {"key": key.hex(), "counter": counter, "cell": cell.hex(), "records": records}


def cell_vectors() -> list[Vector]:
    """Cells whose body is not random: what a second implementation must make of each command."""
    skin, circuit = stream("onion skin")(1568), bytes.fromhex("00000102")
    bodies = [
        ("PAD of the link", LINK_CIRCUIT, Command.PAD, b""),
        ("CREATE, hop 2", circuit, Command.CREATE, encode_create(2, skin)),
        ("CREATED", circuit, Command.CREATED, stream("reply")(1408)),
        ("RELAY, a full body", circuit, Command.RELAY, stream("body")(BODY_BYTES)),
        ("DESTROY of a circuit of the listener", b"\x80\0\0\1", Command.DESTROY, b""),
        ("DESTROY of all circuits of the link", LINK_CIRCUIT, Command.DESTROY, b""),
        ("SHAPE: constant, Poisson, 384 cells a second", LINK_CIRCUIT, Command.SHAPE, b"\2\1\0\0\1\x80"),
    ]
    return [
        {
            "name": n,
            "circuit": c.hex(),
            "command": int(k),
            "body": b.hex(),
            "cell": encode_cell(c, k, b).hex(),
        }
        for n, c, k, b in bodies
    ]


def directory_vectors() -> list[Vector]:
    asked = [
        (1, False, b""),
        (0x01020304, False, b"\1" + bytes(8)),
        (0x01020304, True, stream("answer")(3000)),
    ]
    return [
        {"request": n, "answer": a, "data": d.hex(), "cells": encode_cells(n, d, answer=a).hex()} for n, a, d in asked
    ]


def batch_vector() -> Vector:
    cells = encode_cell(b"\0\0\0\1", Command.RELAY, b"one") + encode_cell(b"\0\0\0\2", Command.RELAY, b"two")
    return {"link": 7, "cells": cells.hex(), "frame": b"".join(encode_run(LinkId(7), cells)).hex()}


def at_counter(key: bytes, counter: int) -> Layer:
    """A layer that has sealed `counter` cells."""
    layer = Layer(key)
    layer.seal_all(bytes(1) for _ in range(counter))
    return layer


def onion_vector(counter: int) -> Vector:
    """One message each way between a client and the third hop, as it stands on every link."""
    keys = {way: [stream(f"onion {way} {hop}")(32) for hop in (1, 2, 3)] for way in ("forward", "backward")}
    layers = {way: [at_counter(key, counter) for key in of] for way, of in keys.items()}
    message = encode(Message.DATA, 5, stream(f"data {counter}")(1987))
    vector: Vector = {"counter": counter, "message": message.hex()}
    vector |= {f"{way}_keys": [key.hex() for key in of] for way, of in keys.items()}
    sealed = layers["forward"][2].seal(OWN + message)
    vector["tag"] = sealed[-16:].hex()
    bodies = [sealed]
    for layer in (layers["forward"][1], layers["forward"][0]):
        bodies.insert(0, layer.seal(RELAYED + bodies[0]))
    vector["forward_bodies"] = [body.ljust(BODY_BYTES, b"\0").hex() for body in bodies]
    bodies = [layers["backward"][2].seal(OWN + message)]
    for layer in (layers["backward"][1], layers["backward"][0]):
        bodies.insert(0, layer.seal(RELAYED + bodies[0]))
    vector["backward_bodies"] = [body.ljust(BODY_BYTES, b"\0").hex() for body in bodies]
    return vector


def sizes_vector() -> Vector:
    hops = range(1, 9)
    return {"sealed_bytes": [sealed_bytes(i) for i in hops], "message_room": [message_room(i) for i in hops]}


def message_vectors() -> list[Vector]:
    """Every message command, unpadded."""
    skin = stream("onion skin")(1568)
    answers = [
        Answer(Kind.IPV4, "192.0.2.1", 60),
        Answer(Kind.IPV6, "2001:db8::1", 3600),
        Answer(Kind.NAME, "a.test", 0),
    ]
    made = [
        (Message.BEGIN, 1, encode_target(target("example.net", 443))),
        (Message.BEGIN, 2, encode_target(target("192.0.2.1", 80))),
        (Message.BEGIN, 65535, encode_target(target("2001:db8::1", 65535))),
        (Message.CONNECTED, 1, encode_answers(answers[:1])),
        (Message.DATA, 1, b"GET / HTTP/1.1"),
        (Message.FIN, 1, b""),
        *((Message.END, 1, bytes((r,))) for r in EndReason if r is not EndReason.CIRCUIT_GONE),
        (Message.RESOLVE, 3, encode_target(target("example.net", 0))),
        (Message.RESOLVED, 3, encode_answers(answers)),
        (Message.RESOLVED, 3, encode_answers([])),
        (Message.CREDIT, 0, bytes(range(16))),
        (Message.CREDIT, 1, bytes(range(16))),
        (Message.EXTEND, 0, encode_extend(NODE, skin)),
        (Message.EXTENDED, 0, stream("reply")(1408)),
        (Message.DROP, 0, b""),
        (Message.PACE, 0, encode_pace(32)),
        (Message.PACED, 0, encode_pace(32)),
        (Message.LOOP, 0, bytes(range(8))),
        (Message.LOOPED, 0, bytes(range(8))),
    ]
    return [
        {"name": c.name, "command": int(c), "stream": s, "data": d.hex(), "message": encode(c, s, d).hex()}
        for c, s, d in made
    ]


MALFORMED = {
    "message": ["", "03000100", "0300010005aabb", "0000010000", "1000010000"],
    "target": [
        "",
        "0050",
        "005005aabbccdd",
        "005004aabbcc",
        "005004aabbccddee",
        "00500300",
        "00500301" + "20",
        "005003017f",
    ],
    "answers": ["", "01", "010000003c04aabbcc", "11" + "0000000104aabbccdd" * 17, "00aa", "010000003cf0"],
    "reason": ["", "0000", "09", "0a", "ff"],
}
"""For each reader, data that it must refuse."""


def congestion_vector() -> Vector:
    """The window after each credit: an empty path, then one whose queues grow, then one that is mixed."""
    samples = [(0.05, 0.1 * i) for i in range(1, 20)] + [(0.05 + 0.01 * i, 2 + 0.1 * i) for i in range(1, 60)]
    window = Congestion(CongestionParameters())
    steps = []
    for round_trip, now in samples:
        window.sample(round_trip, 32, now)
        steps.append([round(round_trip, 6), round(now, 6), window.window])
    return {"cells_a_credit": 32, "round_trip_now_window": steps}


def old_vectors(name: str) -> list[Vector]:
    path = HERE / name
    found: list[Vector] = json.loads(path.read_text())["vectors"] if path.exists() else []
    return [*found, {}, {}, {}, {}]


def write(name: str, about: str, vectors: list[Vector], **more: object) -> None:
    text = json.dumps({"source": about, "vectors": vectors, **more}, indent=1)
    (HERE / name).write_text(text + "\n")


def main() -> None:
    old = old_vectors("ntor3_mlkem768.json")
    write(
        "ntor3_mlkem768.json",
        "PhantomBand, docs/reference/wire-format.md, Circuit handshake; by make_vectors.py",
        [ntor_vector(old[0], 1, b"", b"hello"), ntor_vector(old[1], 3, bytes(range(254)), b"\xff" * 254)],
    )
    reference = "PhantomBand, docs/reference/wire-format.md, {}; by make_vectors.py"
    about = reference.format("Cells, DIRECTORY cells, Lanes")
    write("cell.json", about, cell_vectors(), directory=directory_vectors(), batch=batch_vector())
    about = reference.format("Onion layers")
    write("onion.json", about, [onion_vector(0), onion_vector(RATCHET_CELLS)], sizes=sizes_vector())
    about = reference.format("Stream messages, Congestion")
    write("stream.json", about, message_vectors(), malformed=MALFORMED, congestion=congestion_vector())
    suite = "25519+MLKEM768_AESGCM_SHA256"
    dialer_key, psk = LinkKey.generate(stream("dialer key")), stream("psk")(32)
    for file, pattern, key in (("link_nkhfs.json", "NKhfs", None), ("link_xkhfs.json", "XKhfs", dialer_key)):
        old = old_vectors(file)
        write(
            file,
            "PhantomBand, docs/reference/wire-format.md, Link handshake and Link records; by make_vectors.py",
            [
                link_vector(old[0], f"Noise_{pattern}_{suite}", key, None),
                link_vector(old[1], f"Noise_{pattern}+psk0_{suite}", key, psk),
            ],
            **({"rekey": rekey_vector()} if pattern == "NKhfs" else {}),
        )


if __name__ == "__main__":
    main()
