"""Messages of the table: requests that are as large as their answers may be, and the answers.

    request = kind 1 | flags 1 | nonce 16 | sender's contact | body | zeros
      0x01 PING     -
      0x02 FIND     target 32
      0x03 GET      key 32 | size 4
      0x04 STORE    record 4+n

    answer = kind 1 | nonce 16 | proof 2+n (0 or 5,357) | body
      0x81 PONG     -
      0x82 FOUND    count 1 | contacts | held 1 (0 or 1) | if held: version 8 | digest 32 | size 4
      0x83 RECORD   record 4+n (0: not held)
      0x84 OUTCOME  code 1

Flags: 1 PROVE, the answer must carry a proof of identity (proof.py). The nonce is fresh and random: an answer
proves that its sender lives where it was asked. Zeros fill a request to whole pieces of 2,036 bytes (the data of one
DIRECTORY cell), as many as the answer may take: no answer is larger than its request, so
nobody uses a directory to flood another.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from phantomband.core.dht.contact import KEY_BYTES, MAX_CONTACT_BYTES, Contact, read_contact_untrusted
from phantomband.core.dht.lookup import Held
from phantomband.core.dht.proof import PROOF_BYTES
from phantomband.core.dht.record import MAX_RECORD_BYTES
from phantomband.core.dht.store import Outcome
from phantomband.core.errors import Malformed
from phantomband.core.wire import Reader, lv16, lv32, u8, u32, u64

PIECE_BYTES = 2036
"""Data of one DIRECTORY cell (core/dircall.py)."""

NONCE_BYTES = 16
DIGEST_BYTES = 32
MAX_CONTACTS = 16
"""In one FOUND."""

FLAG_PROVE = 1

_REQUEST_HEAD = 1 + 1 + NONCE_BYTES
_ANSWER_HEAD = 1 + NONCE_BYTES + 2
_HELD_BYTES = 8 + DIGEST_BYTES + 4
_MAX_FOUND = _ANSWER_HEAD + 1 + MAX_CONTACTS * MAX_CONTACT_BYTES + 1 + _HELD_BYTES


class Kind(IntEnum):
    """First byte of a message."""

    PING = 0x01
    FIND = 0x02
    GET = 0x03
    STORE = 0x04
    PONG = 0x81
    FOUND = 0x82
    RECORD = 0x83
    OUTCOME = 0x84


def pieces(size: int) -> int:
    """Pieces of 2,036 bytes that `size` bytes take."""
    return -(-size // PIECE_BYTES)


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there, and with `prove`: who are you?"""

    nonce: bytes
    sender: Contact
    prove: bool

    @property
    def pieces(self) -> int:
        return pieces(_ANSWER_HEAD + PROOF_BYTES * self.prove)


@dataclass(frozen=True, slots=True)
class Find:
    """Which contacts are closest to `target`, and do you hold a record under it?"""

    nonce: bytes
    sender: Contact
    prove: bool
    target: bytes

    @property
    def pieces(self) -> int:
        return pieces(_MAX_FOUND + PROOF_BYTES * self.prove)


@dataclass(frozen=True, slots=True)
class Get:
    """The record under `key`, which is said to have `size` bytes."""

    nonce: bytes
    sender: Contact
    key: bytes
    size: int

    @property
    def pieces(self) -> int:
        return pieces(_ANSWER_HEAD + 4 + self.size)


@dataclass(frozen=True, slots=True)
class Store:
    """Hold this record."""

    nonce: bytes
    sender: Contact
    record: bytes

    @property
    def pieces(self) -> int:
        return pieces(_REQUEST_HEAD + MAX_CONTACT_BYTES + 4 + len(self.record))


@dataclass(frozen=True, slots=True)
class Pong:
    """Answers PING."""

    nonce: bytes
    proof: bytes

    @property
    def pieces(self) -> int:
        return pieces(_ANSWER_HEAD + len(self.proof))


@dataclass(frozen=True, slots=True)
class Found:
    """Answers FIND."""

    nonce: bytes
    proof: bytes
    contacts: tuple[Contact, ...]
    held: Held | None

    @property
    def pieces(self) -> int:
        size = sum(67 + len(contact.ip) for contact in self.contacts)
        return pieces(_ANSWER_HEAD + len(self.proof) + 2 + size + _HELD_BYTES * (self.held is not None))


@dataclass(frozen=True, slots=True)
class RecordAnswer:
    """Answers GET; nothing if it is not held, or larger than was asked for."""

    nonce: bytes
    record: bytes

    @property
    def pieces(self) -> int:
        return pieces(_ANSWER_HEAD + 4 + len(self.record))


@dataclass(frozen=True, slots=True)
class StoreAnswer:
    """Answers STORE."""

    nonce: bytes
    outcome: Outcome

    @property
    def pieces(self) -> int:
        return 1


Request = Ping | Find | Get | Store
Answer = Pong | Found | RecordAnswer | StoreAnswer
Message = Request | Answer


def encode(message: Message) -> bytes:
    """A request is a whole number of pieces; no answer is longer than its request."""
    match message:
        case Ping():
            return _request(Kind.PING, message, b"", message.prove)
        case Find():
            return _request(Kind.FIND, message, message.target, message.prove)
        case Get():
            return _request(Kind.GET, message, message.key + u32(message.size), False)
        case Store():
            return _request(Kind.STORE, message, lv32(message.record), False)
        case Pong():
            return _answer(Kind.PONG, message.nonce, message.proof, b"")
        case Found():
            return _answer(Kind.FOUND, message.nonce, message.proof, _found_body(message))
        case RecordAnswer():
            return _answer(Kind.RECORD, message.nonce, b"", lv32(message.record))
        case StoreAnswer():
            return _answer(Kind.OUTCOME, message.nonce, b"", u8(message.outcome))


def decode_request_untrusted(data: bytes) -> Request:
    """Reads a request.

    Raises:
        Malformed: not one, cut, or not filled with zeros to its proper length.
    """
    reader = Reader(data)
    kind, flags = reader.u8(), reader.u8()
    if flags > FLAG_PROVE:
        raise Malformed(f"unknown flags {flags:#x}")
    nonce, sender, prove = reader.take(NONCE_BYTES), read_contact_untrusted(reader), bool(flags)
    request: Request
    match kind:
        case Kind.PING:
            request = Ping(nonce, sender, prove)
        case Kind.FIND:
            request = Find(nonce, sender, prove, reader.take(KEY_BYTES))
        case Kind.GET:
            request = Get(nonce, sender, reader.take(KEY_BYTES), _size_untrusted(reader))
        case Kind.STORE:
            request = Store(nonce, sender, reader.lv32(MAX_RECORD_BYTES))
        case _:
            raise Malformed(f"unknown request {kind:#x}")
    if prove and kind not in (Kind.PING, Kind.FIND):
        raise Malformed("only PING and FIND ask for a proof")
    if len(data) != request.pieces * PIECE_BYTES or reader.rest().strip(b"\0"):
        raise Malformed("a request is filled with zeros to the length that its answer may have")
    return request


def decode_answer_untrusted(data: bytes) -> Answer:
    """Reads an answer.

    Raises:
        Malformed: not one, cut, or bytes left over.
    """
    reader = Reader(data)
    kind, nonce, proof = reader.u8(), reader.take(NONCE_BYTES), reader.lv16()
    if len(proof) not in (0, PROOF_BYTES) or (proof and kind not in (Kind.PONG, Kind.FOUND)):
        raise Malformed("a proof of the wrong length, or where none belongs")
    answer: Answer
    match kind:
        case Kind.PONG:
            answer = Pong(nonce, proof)
        case Kind.FOUND:
            answer = Found(nonce, proof, _contacts_untrusted(reader), _held_untrusted(reader))
        case Kind.RECORD:
            answer = RecordAnswer(nonce, reader.lv32(MAX_RECORD_BYTES))
        case Kind.OUTCOME:
            answer = StoreAnswer(nonce, _outcome_untrusted(reader.u8()))
        case _:
            raise Malformed(f"unknown answer {kind:#x}")
    reader.end()
    return answer


def _request(kind: Kind, message: Request, body: bytes, prove: bool) -> bytes:
    head = u8(kind) + u8(FLAG_PROVE * prove) + message.nonce + message.sender.encode()
    return (head + body).ljust(message.pieces * PIECE_BYTES, b"\0")


def _answer(kind: Kind, nonce: bytes, proof: bytes, body: bytes) -> bytes:
    return u8(kind) + nonce + lv16(proof) + body


def _found_body(found: Found) -> bytes:
    contacts = u8(len(found.contacts)) + b"".join(contact.encode() for contact in found.contacts)
    if (held := found.held) is None:
        return contacts + u8(0)
    return contacts + u8(1) + u64(held.version) + held.digest + u32(held.size)


def _contacts_untrusted(reader: Reader) -> tuple[Contact, ...]:
    count = reader.u8()
    if count > MAX_CONTACTS:
        raise Malformed(f"an answer has at most {MAX_CONTACTS} contacts, not {count}")
    contacts = tuple(read_contact_untrusted(reader) for _ in range(count))
    if len({contact.node_id for contact in contacts}) != count:
        raise Malformed("a contact is listed twice")
    return contacts


def _held_untrusted(reader: Reader) -> Held | None:
    match reader.u8():
        case 0:
            return None
        case 1:
            return Held(reader.u64(), reader.take(DIGEST_BYTES), _size_untrusted(reader))
    raise Malformed("a record is held or it is not")


def _size_untrusted(reader: Reader) -> int:
    if not 0 < (size := reader.u32()) <= MAX_RECORD_BYTES:
        raise Malformed(f"a record has 1 to {MAX_RECORD_BYTES} bytes, not {size}")
    return size


def _outcome_untrusted(code: int) -> Outcome:
    try:
        return Outcome(code)
    except ValueError as e:
        raise Malformed(f"unknown outcome {code}") from e
