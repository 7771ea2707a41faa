"""Our own vectors of cells, onion layers and streams, read as a second implementation would read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from phantomband.core import cell
from phantomband.core.circuit import batch
from phantomband.core.dircall import Assembler, DirectoryMessage, encode_cells
from phantomband.core.errors import Malformed
from phantomband.core.onion import Layer, message_room, sealed_bytes
from phantomband.core.stream import messages
from phantomband.core.stream.congestion import Congestion, CongestionParameters

HERE = Path(__file__).parents[1] / "vectors"
CELLS, ONION, STREAM = (json.loads((HERE / f"{name}.json").read_text()) for name in ("cell", "onion", "stream"))


def raw(text: str) -> bytes:
    return bytes.fromhex(text)


@pytest.mark.parametrize("vector", CELLS["vectors"], ids=lambda v: v["name"])
def test_cells(vector: dict[str, Any]) -> None:
    circuit, command, body = cell.decode_untrusted(raw(vector["cell"]))
    assert (circuit.hex(), int(command)) == (vector["circuit"], vector["command"])
    assert body == raw(vector["body"]).ljust(2043, b"\0")
    assert cell.encode(circuit, command, raw(vector["body"])) == raw(vector["cell"])


@pytest.mark.parametrize("vector", CELLS["directory"], ids=lambda v: f"{v['request']}-{v['answer']}")
def test_directory_cells(vector: dict[str, Any]) -> None:
    data, cells = raw(vector["data"]), raw(vector["cells"])
    assert encode_cells(vector["request"], data, answer=vector["answer"]) == cells
    assembler = Assembler()
    if vector["answer"]:
        assembler.ask(vector["request"])
    got = [assembler.cell_untrusted(cells[i + 5 : i + 2048]) for i in range(0, len(cells), 2048)]
    assert got == [None] * (len(got) - 1) + [DirectoryMessage(vector["request"], vector["answer"], data)]


def test_batch() -> None:
    vector = CELLS["batch"]
    frame = raw(vector["frame"])
    assert batch.decode_untrusted(frame) == [(vector["link"], 10, 2)]
    assert frame[10:] == raw(vector["cells"])


@pytest.mark.parametrize("vector", ONION["vectors"], ids=lambda v: str(v["counter"]))
def test_a_relay_peels_and_wraps_what_the_vector_says(vector: dict[str, Any]) -> None:
    counter = vector["counter"]
    forward = [Layer(raw(key)) for key in vector["forward_keys"]]
    backward = [Layer(raw(key)) for key in vector["backward_keys"]]
    for layer in (*forward, *backward):
        layer.seal_all(b"" for _ in range(counter))
    bodies = [raw(body) for body in vector["forward_bodies"]]
    for hop, (layer, body) in enumerate(zip(forward, bodies, strict=True), 1):
        plain = layer.open(body[: sealed_bytes(hop)])
        assert not any(body[sealed_bytes(hop) :])
        if hop < 3:
            assert plain[0] == 0
            assert bodies[hop] == plain[1:].ljust(2043, b"\0")
        else:
            assert plain == b"\1" + raw(vector["message"])
            assert body[sealed_bytes(3) - 16 : sealed_bytes(3)] == raw(vector["tag"])
    bodies = [raw(body) for body in vector["backward_bodies"]]
    assert backward[2].seal(b"\1" + raw(vector["message"])) == bodies[2][: sealed_bytes(3)]
    for hop in (2, 1):
        wrapped = backward[hop - 1].seal(b"\0" + bodies[hop][: sealed_bytes(hop + 1)])
        assert wrapped == bodies[hop - 1][: sealed_bytes(hop)]


def test_the_first_vector_needs_nothing_of_ours() -> None:
    vector = ONION["vectors"][0]
    sealed = raw(vector["forward_bodies"][0])
    for key, mark in zip(vector["forward_keys"], (0, 0, 1), strict=True):
        plain = AESGCM(raw(key)).decrypt(bytes(12), sealed, None)
        assert plain[0] == mark
        sealed = plain[1:]
    assert sealed == raw(vector["message"])


def test_sizes() -> None:
    assert ONION["sizes"]["sealed_bytes"] == [sealed_bytes(i) for i in range(1, 9)]
    assert ONION["sizes"]["message_room"] == [message_room(i) for i in range(1, 9)]


@pytest.mark.parametrize("vector", STREAM["vectors"], ids=lambda v: v["message"][:12])
def test_messages(vector: dict[str, Any]) -> None:
    got = messages.decode_untrusted(raw(vector["message"]).ljust(1992, b"\0"))
    assert got == (vector["command"], vector["stream"], raw(vector["data"]))


READERS = {
    "message": messages.decode_untrusted, "target": messages.decode_target_untrusted,
    "answers": messages.decode_answers_untrusted, "reason": messages.decode_reason_untrusted,
}  # fmt: skip


@pytest.mark.parametrize(("reader", "data"), [(r, d) for r, all_ in STREAM["malformed"].items() for d in all_])
def test_what_must_be_refused_is(reader: str, data: str) -> None:
    with pytest.raises(Malformed):
        READERS[reader](raw(data))


def test_congestion_window() -> None:
    window = Congestion(CongestionParameters())
    vector = STREAM["congestion"]
    for round_trip, now, expected in vector["round_trip_now_window"]:
        window.sample(round_trip, vector["cells_a_credit"], now)
        assert window.window == expected
