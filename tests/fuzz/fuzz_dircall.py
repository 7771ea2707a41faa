"""Any DIRECTORY cells end in messages within their limits or in Malformed; any batch is split without loss.

Run with atheris: `python tests/fuzz/fuzz_dircall.py`.
The unit tests run `one_input` on random and mutated inputs.
"""

from __future__ import annotations

import sys

from phantomband.core.cell import BODY_BYTES, CELL_BYTES
from phantomband.core.dircall import MAX_ANSWER_BYTES, MAX_REQUEST_BYTES, Assembler, encode_cells, split
from phantomband.core.errors import Malformed

SEEDS = [
    encode_cells(1, b"request", answer=False)[5:60],
    encode_cells(2, b"x" * 3000, answer=True),
    b"\0\0\0\1\0\0\1a\0\0\0\1\2\0\1b",
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


def one_input(data: bytes) -> None:
    """Gives `data` as one body, as many small ones, and as a batch."""
    assemble([data])
    assemble([data[i : i + 8].ljust(BODY_BYTES, b"\0") for i in range(0, min(len(data), 800), 8)])
    batch = data.ljust(-(-len(data) // CELL_BYTES) * CELL_BYTES, b"\0")
    others, bodies = split(batch)
    if len(others) + len(bodies) * CELL_BYTES != len(batch):
        raise AssertionError("splitting lost cells")
    assemble(bodies)


if __name__ == "__main__":
    import atheris

    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
