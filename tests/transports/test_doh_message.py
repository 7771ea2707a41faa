"""DNS messages and names of the doh transport, beside dnspython."""

from __future__ import annotations

import random
import struct

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st
from phantomband.core.errors import Malformed
from phantomband.transports.doh import message, names
from phantomband.transports.doh.message import TUNNEL_OPTION, TXT

ZONE = message.parse_domain("t.example.net")


def name(text: str) -> bytes:
    return message.encode_name(message.parse_domain(text))


def test_our_queries_are_dns_messages() -> None:
    raw = message.query(4660, name("www.example.net"), TXT, b"packet", 4096, 128)
    assert len(raw) == 128
    parsed = dns.message.from_wire(raw)
    assert (parsed.id, parsed.flags, parsed.payload) == (4660, dns.flags.RD, 4096)
    assert parsed.question[0].to_text() == "www.example.net. IN TXT"
    assert (int(parsed.options[0].otype), parsed.options[0].to_wire()) == (TUNNEL_OPTION, b"packet")
    assert len(dns.message.from_wire(message.query(1, name("a.b"), TXT)).options) == 0


def test_queries_of_others_are_read() -> None:
    query = dns.message.make_query("WwW.Example.NET", "TXT", use_edns=0, payload=1400)
    q = message.read_question_untrusted(query.to_wire())
    assert (q.id, q.kind, q.cls, q.edns, q.opcode) == (query.id, TXT, 1, 1400, 0)
    assert q.labels == [b"www", b"example", b"net"]
    assert q.option == b""
    assert message.read_question_untrusted(dns.message.make_query("a.", "A").to_wire()).udp_limit == 512


@pytest.mark.parametrize("edns", [None, 1232])
def test_our_answers_are_dns_messages(edns: int | None) -> None:
    query = dns.message.make_query("a.t.example.net", "TXT", use_edns=-1 if edns is None else 0, payload=edns or 0)
    raw = query.to_wire()
    q = message.read_question_untrusted(raw)
    data = random.Random(1).randbytes(600)
    found = [message.record(message.QUESTION_NAME, TXT, 3, message.text_data(data))]
    answer = message.reply(q, raw, message.NOERROR, found, flags=message.AA)
    parsed = dns.message.from_wire(answer)
    assert query.is_response(parsed)
    assert parsed.flags & dns.flags.AA
    assert b"".join(parsed.answer[0][0].strings) == data
    response = message.read_response_untrusted(answer, TXT)
    assert (message.read_text_untrusted(response.data), response.ttl, response.code) == (data, 3, 0)


def test_an_option_comes_back() -> None:
    raw = message.query(0, name("www.example.net"), message.A, b"asked", 4096, 128)
    q = message.read_question_untrusted(raw)
    assert q.option == b"asked"
    data = random.Random(2).randbytes(60_000)
    answer = message.option_answer(q, raw, data)
    assert len(answer) == q.end + message.OPTION_OVERHEAD + len(data)
    assert dns.message.from_wire(raw).is_response(dns.message.from_wire(answer))
    assert message.read_response_untrusted(answer, message.A).option == data


def test_answers_of_others_are_read() -> None:
    query = dns.message.make_query("x.example", "A")
    reply = dns.message.make_response(query)
    reply.answer.append(dns.rrset.from_text("x.example.", 300, "IN", "CNAME", "y.example."))
    reply.answer.append(dns.rrset.from_text("y.example.", 20, "IN", "A", "192.0.2.1", "192.0.2.2"))
    reply.authority.append(dns.rrset.from_text("example.", 100, "IN", "NS", "ns.example."))
    response = message.read_response_untrusted(reply.to_wire(), message.A)
    assert response.data in (bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2)))
    assert (response.ttl, response.truncated) == (20, False)
    reply = dns.message.make_response(query)
    reply.set_rcode(dns.rcode.NXDOMAIN)
    reply.flags |= dns.flags.TC
    response = message.read_response_untrusted(reply.to_wire(), message.A)
    assert (response.code, response.data, response.ttl, response.truncated) == (3, b"", None, True)


def test_forwarded_questions_have_no_options() -> None:
    query = dns.message.make_query("a.example", "A", want_dnssec=True, options=[dns.edns.GenericOption(65001, b"x")])
    raw = query.to_wire()
    parsed = dns.message.from_wire(message.forwarded(message.read_question_untrusted(raw), raw, 9))
    assert (parsed.id, parsed.question, parsed.options) == (9, query.question, ())
    assert parsed.ednsflags & dns.flags.DO
    bare = dns.message.make_query("a.example", "A").to_wire()
    assert message.forwarded(message.read_question_untrusted(bare), bare, 0) == b"\0\0" + bare[2:]


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_malformed(data: bytes) -> None:
    for parse in (
        message.read_question_untrusted, lambda d: message.read_response_untrusted(d, TXT), message.read_text_untrusted,
    ):  # fmt: skip
        try:
            parse(data)
        except Malformed:
            pass


@given(st.integers(0, 400), st.integers(0, 255), st.integers(0, 400))
def test_a_message_with_a_wrong_byte_is_a_message_or_malformed(at: int, byte: int, cut: int) -> None:
    raw = bytearray(message.query(0, name("www.example.net"), TXT, bytes(100), 4096, 128))
    raw[at % len(raw)] = byte
    for data in (bytes(raw), bytes(raw[:cut])):
        for parse in (message.read_question_untrusted, lambda d: message.read_response_untrusted(d, TXT)):
            try:
                parse(data)
            except Malformed:
                pass


@given(st.binary(max_size=2000))
def test_text_round_trips(data: bytes) -> None:
    text = message.text_data(data)
    assert message.read_text_untrusted(text) == data
    assert message.text_room(len(text)) >= len(data)


@given(st.integers(1, 5000))
def test_text_fits_its_room(size: int) -> None:
    room = message.text_room(size)
    assert len(message.text_data(bytes(max(room, 0)))) <= max(size, 1)


@given(st.binary(min_size=1, max_size=147), st.randoms())
def test_names_round_trip_whatever_the_case(packet: bytes, dice: random.Random) -> None:
    raw = names.encode(packet, ZONE)
    assert len(raw) <= message.MAX_NAME
    text = dns.name.from_wire(raw, 0)[0].to_text()
    assert text.endswith(".t.example.net.")
    mixed = bytes(c ^ 32 if dice.random() < 0.5 and chr(c).isalpha() and c > 63 else c for c in raw)
    parts = message.labels(mixed)
    assert names.under(parts, ZONE)
    assert names.decode_untrusted(parts, ZONE) == packet


def test_capacities() -> None:
    assert names.capacity(ZONE) == 147
    for zone in ("a.b", "t.example.net", "a" * 63 + ".example.org", "x." * 40 + "net"):
        labels = message.parse_domain(zone)
        assert len(names.encode(bytes(names.capacity(labels)), labels)) <= message.MAX_NAME
    from phantomband.transports.doh.packet import QUERY_OVERHEAD

    assert len(message.labels(names.encode(bytes(QUERY_OVERHEAD), ZONE))) == 1 + len(ZONE), "a poll is one label"


@pytest.mark.parametrize("text", ["", "a b", "a..b", "ä.net", "a" * 64, ".".join(["a" * 60] * 5)])
def test_domains_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"domain|ascii"):
        message.parse_domain(text)


def test_names_that_are_no_packets() -> None:
    for part in (b"a", b"1", b"-", b"abc"):
        with pytest.raises(Malformed):
            names.decode_untrusted([part, *ZONE], ZONE)


def test_names_that_point_at_themselves() -> None:
    head = struct.pack(">HHHHHH", 1, 0, 1, 0, 0, 0)
    with pytest.raises(Malformed):
        message.read_question_untrusted(head + b"\xc0\x0c\0\x01\0\x01")


@pytest.mark.parametrize("pointer", [b"\xc0\x0c", b"\xc0\0", b"\1a\xc0\0", b"\xff\xff"])
def test_a_question_whose_name_is_compressed_is_none_whatever_byte_it_ends_in(pointer: bytes) -> None:
    head = bytes((0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0))
    with pytest.raises(Malformed):
        message.read_question_untrusted(head + pointer + b"\0\x10\0\1")
