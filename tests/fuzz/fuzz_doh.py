"""Any bytes as DNS message, name, packet or HTTP head end in a value or in Malformed; so do a client's and a server's
packets of any content under the right key, which is what a hostile peer can send.

Run: `make fuzz TARGETS=doh`.
"""

from __future__ import annotations

from phantomband.core.errors import Malformed
from phantomband.transports.doh import http1_server, message, names
from phantomband.transports.doh.client import RESOLVER, ClientSession
from phantomband.transports.doh.packet import Answer, Keys, Opening, Query, read_query_untrusted
from phantomband.transports.doh.request import Request, message_of
from phantomband.transports.doh.server import ServerSession

SESSION = b"sessions"
KEYS = Keys(bytes(32), SESSION)
ZONE = message.parse_domain("t.example.net")
FIRST = Query(SESSION, 0, 1, 0, 64, 0, 0, Opening(0, 1000, 25, False))
SEEDS = (
    message.query(1, names.encode(bytes(60), ZONE), message.TXT, b"x" * 40, 4096, 128),
    KEYS.seal_query(FIRST),
    KEYS.seal_answer(0, Answer(0, 2, 1, 0, 64, 0, b"data")),
    b"GET /dns-query?dns=AAAB HTTP/1.1\r\nHost: x\r\nContent-Length: 3",
    bytes(40),
)


class Way:
    congested = False


def parse(data: bytes) -> None:
    """What takes bytes as they come."""
    for what in (
        message.read_question_untrusted,
        lambda d: message.read_response_untrusted(d, message.TXT),
        message.read_text_untrusted,
        lambda d: names.decode_untrusted(message.read_question_untrusted(d).labels, ZONE),
        read_query_untrusted,
        lambda d: KEYS.open_answer_untrusted(0, d),
    ):
        try:
            what(data)
        except Malformed:
            pass
    try:
        request, _, _ = http1_server._head(data)
        message_of(request, "/dns-query")
    except http1_server._Bad:
        pass
    message_of(Request("GET", "/dns-query?dns=" + data.decode("latin-1"), ""), "/dns-query")


def fields(data: bytes) -> tuple[list[int], bytes]:
    """Eight numbers and the rest."""
    head = data[:24].ljust(24, b"\0")
    wide = [int.from_bytes(head[i : i + 3], "big") * (256 if head[i] > 127 else 1) for i in range(0, 24, 3)]
    return [n & 0xFFFFFFFF for n in wide], data[24:]


def sessions(data: bytes) -> None:
    """A server whose client, and a client whose server, has the key and sends anything."""
    server, client = ServerSession(KEYS, FIRST, 0.0), ClientSession(KEYS, RESOLVER, 1000, 0, 0.0)
    server.query_untrusted(FIRST, 1000, lambda size: size, Way(), lambda answer: None, 0.0)
    server.write(b"some data" * 300)
    client.write(b"some data" * 300)
    client.query(147, 0.0)
    numbers, rest = fields(data)
    for step in range(4):
        now = step * 0.1
        a, b, c, d, e, f, g, h = numbers
        q = Query(SESSION, (a + step) & 0xFFFFFFFF, b & 31 & ~1, c, d & 0xFFFF, e & 0xFFFF, f * g, None, h, rest)
        answer = Answer(a, b & 31, d & 255, c, e & 0xFFFF, h, rest)
        try:
            server.query_untrusted(read_query_untrusted(KEYS.seal_query(q)), 1000, lambda s: s, Way(), len, now)
        except Malformed:
            pass
        try:
            client.answer_untrusted(step, KEYS.seal_answer(step, answer), now)
        except Malformed:
            pass
        for end in (server, client):
            end.take(now)
            end.tick(now)
            if not end.over:
                _ = end.deadline
        server.flush(now)
        while client.query(147, now) is not None:
            pass
        numbers = numbers[1:] + numbers[:1]


def one_input(data: bytes) -> None:
    parse(data)
    sessions(data)
