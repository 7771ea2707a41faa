"""Link records: runs of whole cells under AES-256-GCM (PROTOCOL.md section 5).

    record = AEAD(count 2) 18 bytes | AEAD(cells) count * 2,048 + 16 bytes          count = 1 to 15

The count is sealed by itself, so that nothing on the wire can be told from random bytes and a reader knows
how much to wait for. Nonce = 0 x 4 | counter 8 (big-endian), no associated data; a record takes two
counters. Before a counter that is a multiple of 2^20 (but 0) the key is replaced by Noise's REKEY (revision
34, section 4.2); the counter goes on. The link ends before the counter reaches 2^64 - 1.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from phantomband.core.cell import CELL_BYTES
from phantomband.core.errors import Bug, Forged, Malformed, Refused

Buffer = bytes | bytearray | memoryview

TAG_BYTES: Final = 16
COUNT_BYTES: Final = 2
HEADER_BYTES: Final = COUNT_BYTES + TAG_BYTES
"""Size of a sealed count: 18."""

MAX_RECORD_CELLS: Final = 15
"""The most whole cells in 32 KiB with its tags (PROTOCOL.md section 5: "up to 32 KiB of whole cells")."""

MAX_RECORD_BYTES: Final = HEADER_BYTES + MAX_RECORD_CELLS * CELL_BYTES + TAG_BYTES
"""Size of the largest record: 30,754 bytes."""

REKEY_EVERY: Final = 1 << 20
"""Counters under one key. Even, so that a record never spans two keys."""

COUNTER_END: Final = 2**64 - 1
"""Noise reserves this nonce for REKEY (section 4.2: "n which equals 2^64-1")."""

_COUNTS: Final = [n.to_bytes(COUNT_BYTES, "big") for n in range(MAX_RECORD_CELLS + 1)]
_NONCE_BYTES: Final = 12
_REKEY_NONCE: Final = COUNTER_END.to_bytes(_NONCE_BYTES, "big")


def sealed_bytes(cells: int) -> int:
    """Bytes on the wire for `cells` cells in as few records as can be."""
    records = -(-cells // MAX_RECORD_CELLS)
    return cells * CELL_BYTES + records * (HEADER_BYTES + TAG_BYTES)


class _Direction:
    """The key and counter of one direction."""

    __slots__ = ("aead", "counter")

    def __init__(self, key: bytes, counter: int = 0) -> None:
        self.aead, self.counter = AESGCM(key), counter

    def rekey(self) -> None:
        """REKEY(k): the first 32 bytes of ENCRYPT(k, 2^64 - 1, "", 32 zeros)."""
        self.aead = AESGCM(self.aead.encrypt(_REKEY_NONCE, bytes(32), None)[:32])


class Sealer(_Direction):
    """Turns cells into records."""

    __slots__ = ()

    def seal(self, cells: Buffer) -> bytearray:
        """The records for `cells`, any number of whole cells, in one buffer.

        Raises:
            Bug: not whole cells.
            Refused: the counter is used up; the link must be made anew.
        """
        count, rest = divmod(len(cells), CELL_BYTES)
        if rest:
            raise Bug(f"a link seals whole cells, not {len(cells)} bytes")
        out = bytearray(sealed_bytes(count))
        with memoryview(out) as target, memoryview(cells) as source:
            at = 0
            for start in range(0, count, MAX_RECORD_CELLS):
                end = min(start + MAX_RECORD_CELLS, count)
                at = self._record(source[start * CELL_BYTES : end * CELL_BYTES], target, at)
        return out

    def _record(self, cells: memoryview, target: memoryview, at: int) -> int:
        """Writes one record at `at`; returns where it ends."""
        counter = self.counter
        if counter >= COUNTER_END - 1:
            raise Refused("this link has carried all it may; dial again")
        if counter % REKEY_EVERY == 0 and counter:
            self.rekey()
        size = len(cells)
        body, end = at + HEADER_BYTES, at + HEADER_BYTES + size + TAG_BYTES
        aead = self.aead
        target[at:body] = aead.encrypt(counter.to_bytes(_NONCE_BYTES, "big"), _COUNTS[size // CELL_BYTES], None)
        aead.encrypt_into((counter + 1).to_bytes(_NONCE_BYTES, "big"), cells, None, target[body:end])
        self.counter = counter + 2
        return end


class Opener(_Direction):
    """Turns records back into cells. Keeps at most one incomplete record, 30,754 bytes."""

    __slots__ = ("_body_bytes", "_pending")

    def __init__(self, key: bytes, counter: int = 0) -> None:
        super().__init__(key, counter)
        self._pending = bytearray()
        self._body_bytes = 0  # sealed size of the body that is due, 0 while a header is

    def open_untrusted(self, data: Buffer) -> bytearray:
        """All cells that `data` completes, in one buffer; empty if none.

        Raises:
            Forged: a tag does not verify; the link is dead.
            Malformed: a record of no or too many cells, or one too many.
        """
        with memoryview(data) as view:
            if len(self._pending) + len(view) < self._due:
                self._pending += view
                return bytearray()
            out = bytearray(len(self._pending) + len(view))
            with memoryview(out) as target:
                size = self._open_all(view, target)
        del out[size:]
        return out

    @property
    def _due(self) -> int:
        """Bytes that the next step needs: a header or a body."""
        return self._body_bytes or HEADER_BYTES

    def _open_all(self, data: memoryview, target: memoryview) -> int:
        """Opens what is whole, the part kept from before first, and keeps the rest; returns bytes written."""
        at = written = 0
        while self._pending and len(self._pending) + len(data) - at >= self._due:
            missing = self._due - len(self._pending)
            self._pending += data[at : at + missing]
            at += missing
            part, self._pending = self._pending, bytearray()
            written += self._step(memoryview(part), target[written:])
        if self._pending:
            self._pending += data[at:]
            return written
        while len(data) - at >= (due := self._body_bytes or HEADER_BYTES):
            written += self._step(data[at : at + due], target[written:])
            at += due
        self._pending += data[at:]
        return written

    def _step(self, part: memoryview, target: memoryview) -> int:
        """Opens a header or a body, whichever is due; returns the bytes of cells written."""
        nonce = self.counter.to_bytes(_NONCE_BYTES, "big")
        try:
            if self._body_bytes:
                written = self._body_bytes - TAG_BYTES
                self.aead.decrypt_into(nonce, part, None, target[:written])
                self._body_bytes = 0
                self.counter += 1
                return written
            if self.counter % REKEY_EVERY == 0 and self.counter:
                self.rekey()
            count = int.from_bytes(self.aead.decrypt(nonce, part, None), "big")
        except InvalidTag as e:
            raise Forged("a link record does not verify") from e
        if not 1 <= count <= MAX_RECORD_CELLS or self.counter >= COUNTER_END - 1:
            raise Malformed(f"a link record of {count} cells at counter {self.counter}")
        self._body_bytes = count * CELL_BYTES + TAG_BYTES
        self.counter += 1
        return 0
