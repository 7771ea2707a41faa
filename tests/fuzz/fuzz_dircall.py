"""Any DIRECTORY cells end in messages within their limits or in Malformed, any SHAPE cell in a shape of that one form
or in Malformed; any batch is split without loss.

Run: `make fuzz TARGETS=dircall`.
"""

from __future__ import annotations

from phantomband.core.cell import BODY_BYTES, CELL_BYTES, LINK_CIRCUIT, Command, split
from phantomband.core.dircall import MAX_ANSWER_BYTES, MAX_REQUEST_BYTES, Assembler, encode_cells
from phantomband.core.errors import Malformed
from phantomband.core.shaping import Shape

SEEDS = [
    encode_cells(1, b"request", answer=False)[5:60],
    encode_cells(2, b"x" * 3000, answer=True),
    b"\0\0\0\1\0\0\1a\0\0\0\1\2\0\1b",
    b"\2\1\0\0\0\x80",
]


ASKED = frozenset(range(1, 5))
"""Ids of requests that were made."""


def assemble(bodies: list[bytes]) -> None:
    assembler = Assembler()
    for number in ASKED:
        assembler.ask(number)
    for body in bodies:
        try:
            message = assembler.cell_untrusted(body)
        except Malformed:
            return
        if message is not None:
            limit = MAX_ANSWER_BYTES if message.answer else MAX_REQUEST_BYTES
            if len(message.data) > limit:
                raise AssertionError("a directory message over its limit")
            if message.answer and message.request not in ASKED:
                raise AssertionError("an answer that nobody asked for")


def shape(body: bytes) -> None:
    try:
        found = Shape.decode_untrusted(body)
    except Malformed:
        return
    if found.cell()[5:] != body or Shape.parse_untrusted(found.text) != found:
        raise AssertionError("a shape has two forms")


def one_input(data: bytes) -> None:
    """Gives `data` as one body, as many small ones, and as a batch."""
    assemble([data])
    assemble([data[i : i + 8].ljust(BODY_BYTES, b"\0") for i in range(0, min(len(data), 800), 8)])
    batch = data.ljust(-(-len(data) // CELL_BYTES) * CELL_BYTES, b"\0")
    others, own = split(batch)
    pads = sum(batch[at : at + 5] == LINK_CIRCUIT + b"\0" for at in range(0, len(batch), CELL_BYTES))
    if len(others) + (len(own) + pads) * CELL_BYTES != len(batch):
        raise AssertionError("splitting lost cells")
    assemble([body for command, body in own if command == Command.DIRECTORY])
    shape(data[:BODY_BYTES].ljust(BODY_BYTES, b"\0"))
