"""Requests to the directory service behind a link, carried in DIRECTORY cells beside the circuits' cells.

    body = request id 4 | flags 1 | length 2 | data, up to 2,036 bytes      flags: 1 answer, 2 last

A client bootstraps over its first link so, and the directories of different nodes talk so: no directory is reachable
but through its node's gateway. A request or answer is the data of its cells put together, in order.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from phantomband.core.cell import BODY_BYTES, LINK_CIRCUIT, Command, encode
from phantomband.core.errors import Malformed
from phantomband.core.wire import u8, u16, u32

HEADER_BYTES = 7
PIECE_BYTES = BODY_BYTES - HEADER_BYTES
"""Data of one cell: 2,036 bytes."""

FLAG_ANSWER = 1
FLAG_LAST = 2

MAX_REQUEST_BYTES = 64 * 1024
MAX_ANSWER_BYTES = 4 * 1024 * 1024
MAX_OPEN = 16
"""Requests (or answers) that may be half received on one link; one more ends the link."""

MAX_ASKED = 256
"""Requests whose answer is still taken, late ones too; the oldest is forgotten first."""


def encode_cells(request: int, data: bytes, *, answer: bool) -> bytes:
    """The cells of one request or answer: a multiple of 2,048 bytes."""
    cells = []
    for at in range(0, max(len(data), 1), PIECE_BYTES):
        piece = data[at : at + PIECE_BYTES]
        flags = FLAG_ANSWER * answer | FLAG_LAST * (at + PIECE_BYTES >= len(data))
        cells.append(encode(LINK_CIRCUIT, Command.DIRECTORY, u32(request) + u8(flags) + u16(len(piece)) + piece))
    return b"".join(cells)


@dataclass(frozen=True, slots=True)
class DirectoryMessage:
    """A whole request, or a whole answer to request `request`."""

    request: int
    answer: bool
    data: bytes


@dataclass(slots=True)
class Assembler:
    """Puts the messages of one link together."""

    held: int = 0
    """Bytes of messages that are half received."""
    _open: dict[tuple[int, bool], bytearray] = field(default_factory=dict)
    _asked: OrderedDict[int, None] = field(default_factory=OrderedDict)

    def ask(self, request: int) -> None:
        """A request was sent: one answer to it may come. Nobody can make us hold answers that we did not ask for."""
        self._asked[request] = None
        if len(self._asked) > MAX_ASKED:
            self._asked.popitem(last=False)

    def cell_untrusted(self, body: bytes) -> DirectoryMessage | None:
        """Takes the body of one DIRECTORY cell; gives the message that it completes.

        Raises:
            Malformed: wrong form, a message over its limit, or too many half received.
        """
        if len(body) != BODY_BYTES:
            raise Malformed(f"a cell body has {BODY_BYTES} bytes, not {len(body)}")
        request, flags, size = int.from_bytes(body[:4], "big"), body[4], int.from_bytes(body[5:7], "big")
        if flags > (FLAG_ANSWER | FLAG_LAST) or size > PIECE_BYTES:
            raise Malformed("a DIRECTORY cell of the wrong form")
        if not size and not flags & FLAG_LAST:
            raise Malformed("an empty piece of a directory message that is not its last")
        answer = bool(flags & FLAG_ANSWER)
        if answer and request not in self._asked:
            raise Malformed("an answer to a request that was not made")
        message = self._open.setdefault((request, answer), bytearray())
        message += body[HEADER_BYTES : HEADER_BYTES + size]
        self.held += size
        if len(message) > (MAX_ANSWER_BYTES if answer else MAX_REQUEST_BYTES):
            raise Malformed("a directory message over its limit")
        if len(self._open) > MAX_OPEN:
            raise Malformed("too many directory messages half received")
        if not flags & FLAG_LAST:
            return None
        del self._open[request, answer]
        self.held -= len(message)
        if answer:
            self._asked.pop(request, None)
        return DirectoryMessage(request, answer, bytes(message))
