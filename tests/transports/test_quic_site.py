"""The port of `quic` as an HTTP/3 site, seen by aioquic."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import ClassVar

import pylsqpack
import pytest
import web_rig
from h3_rig import DATA, GOAWAY, HEADERS, SETTINGS, Mute, frame, headers, lines_of, visitor
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hypothesis import given
from hypothesis import strategies as st
from phantomband.core.errors import Malformed
from phantomband.transports.quic.fields import request_untrusted
from phantomband.transports.quic.frames import ControlRules, Frames, settings_untrusted, wanted_in_request_untrusted
from phantomband.transports.quic.qpack import encode, huffman, huffman_bytes
from quic_site import (
    BIG,
    CREATION,
    CRITICAL,
    FRAME,
    ID,
    INTERNAL,
    LOAD,
    MISSING,
    NO_ERROR,
    SETTING,
    UNEXPECTED,
    Rig,
    folder,
)

CONTROL = b"\0" + frame(SETTINGS, b"")
"""A client's control stream."""


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, site=str(folder(tmp_path)))


def test_the_page_has_nginx_header_lines_in_its_order(rig: Rig) -> None:
    async def main(rig: Rig) -> None:
        async with visitor(rig.port) as v:
            answer = await v.get()
            assert answer.body == b"<p>hello</p>\n"
            assert [name for name, _ in answer.lines] == [
                ":status", "server", "date", "content-type", "content-length", "last-modified", "etag", "accept-ranges",
            ]  # fmt: skip
            lines = dict(answer.lines)
            assert (lines["server"], lines["content-type"], lines["content-length"]) == ("nginx", "text/html", "13")
            assert (lines["last-modified"], lines["etag"]) == ("Sat, 01 Nov 2025 00:00:00 GMT", '"69054d80-d"')
            assert v.raw[3] == b"\0\x04\x06\x01\x50\x00\x07\x40\x80", "nginx's control stream, and no QPACK encoder"
            assert v.raw[7] == b"\x03"
            assert set(v.raw) == {0, 3, 7}

    rig.run(main)


def test_the_bytes_of_a_head_are_nginx_own(rig: Rig) -> None:
    """As recorded from nginx 1.26.3, but for the time."""

    async def main(rig: Rig) -> None:
        async with visitor(rig.port) as v:
            await v.get("/sub?x")
            raw = bytes(v.raw[0])
            assert raw.startswith(b"\x01\x40")
            assert raw[3:15] == b"\0\0\x5f\x0a\x03301\x5f\x4d\x84\xaa"
            assert b"\x5f\x26\x87\x49\x7c\xa5\x89\xd3\x4d\x1f\x54\x03162\x5c" in raw
            assert b"\x00\x40\xa2<html>\r\n<head><title>301 Moved" in raw, "one DATA frame"

    rig.run(main)


@pytest.mark.parametrize(("path", "method", "more", "status"), [
    ("/nothing", "GET", (), "404"), ("/sub", "GET", (), "301"), ("/sub/", "GET", (), "200"), ("/", "PUT", (), "405"),
    ("/", "BREW", (), "405"), ("/link.txt", "GET", (), "404"), ("/../outside.txt", "GET", (), "400"),
    ("*", "GET", (), "400"),
    ("/%00", "GET", (), "400"), ("/" + "a" * 9000, "GET", (), "404"), ("/", "get", (), "400"),
    ("/", "TRACE", (), "405"),
    ("/", "GET", (("connection", "close"),), "200"), ("/", "GET", (("transfer-encoding", "chunked"),), "200"),
    ("/", "GET", (("host", "other"),), "400"), ("/", "GET", (("content-length", "x"),), "400"),
    ("/", "GET", (("Upper", "case"),), "400"), ("/", "GET", (("a", "b\nc"),), "400"),
    ("/", "GET", ((":path", "/"),), "400"),
    ("/", "GET", (("x", "y" * 6000),) * 6, "400"), ("/", "POST", (("content-length", "9999999"),), "413"),
    ("/", "GET", (("if-none-match", '"69054d80-d"'),), "304"), ("/", "GET", (("range", "bytes=99-"),), "416"),
])  # fmt: skip
def test_statuses(rig: Rig, path: str, method: str, more: tuple[tuple[str, str], ...], status: str) -> None:
    async def main(rig: Rig) -> None:
        async with visitor(rig.port) as v:
            assert (await v.get(path, method, more)).status == status
            assert (await v.get()).status == "200", "the connection goes on"

    rig.run(main)


@pytest.mark.parametrize("missing", [":method", ":path", ":scheme", ":authority"])
def test_a_missing_pseudo_header_is_answered(rig: Rig, missing: str) -> None:
    async def main(rig: Rig) -> None:
        async with visitor(rig.port) as v:
            stream = v.ask([line for line in lines_of() if line[0] != missing])
            await v.until(lambda: v.answer(stream).over)
            assert v.answer(stream).status == "400"
            stream = v.ask([*(line for line in lines_of() if line[0] != ":authority"), ("host", "www.example.org")])
            await v.until(lambda: v.answer(stream).over)
            assert v.answer(stream).status == "200"

    rig.run(main)


def test_head_has_no_body(rig: Rig) -> None:
    async def main(rig: Rig) -> None:
        async with visitor(rig.port) as v:
            v.http = None  # aioquic's takes the length for that of a body
            stream = v.ask(lines_of(method="HEAD"))
            await v.until(lambda: stream in v.raw and v.raw[stream].startswith(b"\x01\x40"))
            await v.until(lambda: len(v.raw[stream]) >= 3 + v.raw[stream][2])
            async with visitor(rig.port) as other:
                assert (await other.get("/sub/")).body == b"sub\n"
            assert len(v.raw[stream]) == 3 + v.raw[stream][2]

    rig.run(main)


def test_files_whole_and_in_parts(rig: Rig) -> None:
    """Three megabytes are more than a browser's or aioquic's first window."""

    async def main(rig: Rig) -> None:
        async with visitor(rig.port, max_stream_data=100_000, max_data=150_000) as v:
            assert (await v.get("/big.bin")).body == BIG
            part = await v.get("/big.bin", more=[("range", "bytes=1000000-1999999")])
            assert (part.status, part.body) == ("206", BIG[1_000_000:2_000_000])
            assert dict(part.lines)["content-range"] == "bytes 1000000-1999999/3000000"

    rig.run(main)


def test_a_hundred_at_once_and_a_hundred_in_turn(rig: Rig) -> None:
    async def main(rig: Rig) -> None:
        async with visitor(rig.port) as v:
            streams = [v.ask(lines_of("/sub/")) for _ in range(100)]
            await v.until(lambda: all(v.answer(s).over for s in streams))
            assert all(v.answer(s).body == b"sub\n" for s in streams)
            for _ in range(100):
                assert (await v.get()).body == b"<p>hello</p>\n"

    rig.run(main)


def test_a_body_is_passed_over(rig: Rig) -> None:
    """The answer does not wait for it; the rest of it is declined, as RFC 9114, section 4.1, allows."""

    async def main(rig: Rig) -> None:
        async with visitor(rig.port) as v:
            answer = await v.get("/", "POST", body=bytes(1_500_000))
            assert answer.status == "405"
            stream = v.ask(lines_of("/nothing", "POST"), bytes(5000), end=False)
            await v.until(lambda: v.answer(stream).stopped is not None)
            assert (v.answer(stream).status, v.answer(stream).whole) == ("404", True)
            assert v.answer(stream).stopped == NO_ERROR
            assert (await v.get()).status == "200"

    rig.run(main)


class Origin(asyncio.Protocol):
    """A server behind: answers by path."""

    heads: ClassVar[list[bytes]] = []
    answers: ClassVar[dict[bytes, bytes]] = {
        b"/length": b"HTTP/1.1 200 OK\r\nServer: other\r\nContent-Type: a/b\r\nContent-Length: 3\r\nX-A: b\r\n\r\nabc",
        b"/chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x\r\nc\r\n0\r\n\r\n",
        b"/close": b"HTTP/1.0 200 OK\r\n\r\n" + BIG,
        b"/cut": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
        b"/bad chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
    }

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.heads.append(data)
        path = data.split(b" ")[1].replace(b"%20", b" ")
        self.transport.write(self.answers.get(path, b"HTTP/1.1 404 Gone Fishing\r\nContent-Length: 0\r\n\r\n"))
        self.transport.close()


def test_requests_are_passed_on_to_a_server_behind(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        async with visitor(rig.port) as v:
            answer = await v.get("/length", more=[("cookie", "a=b"), ("cookie", "c=d"), ("te", "trailers")])
            assert answer.body == b"abc"
            assert [name for name, _ in answer.lines] == [
                ":status", "server", "date", "content-type", "content-length", "x-a",
            ]  # fmt: skip
            head = Origin.heads[-1]
            assert head.startswith(b"GET /length HTTP/1.0\r\nhost: www.example.org\r\n")
            assert b"\r\ncookie: a=b; c=d\r\n" in head
            assert b"trailers" not in head
            chunked = await v.get("/chunks")
            assert (chunked.body, "transfer-encoding" in dict(chunked.lines)) == (b"abc", False)
            assert (await v.get("/close")).body == BIG
            assert (await v.get("/else")).status == "404"
            for path in ("/cut", "/bad%20chunks"):
                assert (await v.get(path)).reset == INTERNAL
            assert (await v.get("/length", "POST")).status == "405"

    async def whole(rig: Rig) -> None:
        server = await asyncio.get_running_loop().create_server(Origin, web_rig.LOOPBACK, port)
        await main(rig)
        server.close()

    port = web_rig.free_port()
    Rig(tmp_path, site=f"http://127.0.0.1:{port}").run(whole)


def test_a_server_behind_that_is_not_there(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        async with visitor(rig.port) as v:
            assert (await v.get()).status == "502"

    Rig(tmp_path, site=f"http://127.0.0.1:{web_rig.free_port()}").run(main)


PAGE = headers(lines_of())
MALFORMED = {
    "random bytes": (bytes(range(200, 256)), INTERNAL), "HTTP/1.1": (b"GET / HTTP/1.1\r\n\r\n", INTERNAL),
    "zeros": (bytes(64), UNEXPECTED), "nothing": (b"", INTERNAL), "half a head": (PAGE[:-3], INTERNAL),
    "data first": (frame(DATA, b"abc") + PAGE, UNEXPECTED), "settings": (frame(SETTINGS, b""), UNEXPECTED),
    "HTTP/2's": (frame(6, b"abc"), UNEXPECTED), "goaway": (frame(GOAWAY, b"\0"), UNEXPECTED),
    "no lines": (frame(HEADERS, b"\0\0"), FRAME),
    "a static line that is none": (frame(HEADERS, b"\0\0\xff\x24"), 0x200),
    "a long line": (headers(lines_of(more=[("x", "~" * 30000)])), LOAD),
}  # fmt: skip
"""What a request's stream holds, and what nginx 1.26 resets it with."""


@pytest.mark.parametrize("name", list(MALFORMED))
def test_malformed_requests_end_their_stream(rig: Rig, name: str) -> None:
    async def main(rig: Rig) -> None:
        data, code = MALFORMED[name]
        async with visitor(rig.port) as v:
            v.send(0, data, True)
            await v.until(lambda: v.answer(0).over)
            assert v.answer(0).reset == code
            v.send(4, PAGE, True)
            await v.until(lambda: v.answer(4).over)
            assert v.answer(4).status == "200", "the connection goes on"
        assert not rig.tunnels

    rig.run(main)


def test_unknown_frames_are_passed_over_and_trailers_are_not_looked_at(rig: Rig) -> None:
    async def main(rig: Rig) -> None:
        async with visitor(rig.port) as v:
            v.send(0, frame(0x21, bytes(500_000)) + PAGE + frame(0x21, b"abc"), True)
            v.send(4, PAGE + PAGE + frame(SETTINGS, b""), True)
            await v.until(lambda: v.answer(0).over and v.answer(4).over)
            assert (v.answer(0).status, v.answer(4).status) == ("200", "200")

    rig.run(main)


CONNECTION = {
    "no settings": ({2: b"\0" + frame(GOAWAY, b"\0")}, MISSING), "settings twice": ({2: CONTROL * 2}, UNEXPECTED),
    "data": ({2: CONTROL + frame(DATA, b"a")}, UNEXPECTED), "HTTP/2's": ({2: CONTROL + frame(2, b"a")}, UNEXPECTED),
    "cancelled push": ({2: CONTROL + frame(3, b"\0")}, ID),
    "settings cut off": ({2: b"\0" + frame(SETTINGS, b"\1")}, SETTING),
    "two controls": ({2: CONTROL, 6: CONTROL}, CREATION), "a push": ({2: b"\1\0"}, CREATION),
    "unknown": ({2: b"\x21abc"}, CREATION), "two encoders": ({2: b"\2", 6: b"\2"}, CREATION),
    "a table that is too large": ({2: b"\2\x3f\xff\xff\x7f"}, 0x201), "an entry that is none": ({2: b"\2\5"}, 0x201),
    "an acknowledgement of nothing": ({2: b"\3\x80"}, 0x202), "huge settings": ({2: b"\0\x04\x80\x02\0\0"}, LOAD),
}  # fmt: skip
"""What a client's one-way streams hold, and what nginx 1.26 closes the connection with."""


@pytest.mark.parametrize("name", list(CONNECTION))
def test_malformed_control_ends_the_connection(rig: Rig, name: str) -> None:
    async def main(rig: Rig) -> None:
        streams, code = CONNECTION[name]
        async with visitor(rig.port, Mute) as v:
            for stream, data in streams.items():
                v.send(stream, data)
            await v.until(lambda: v.closed is not None)
            assert v.closed == (code, "stream error")

    rig.run(main)


def test_ends_of_critical_streams_end_the_connection(rig: Rig) -> None:
    async def main(rig: Rig) -> None:
        for kind in (b"\0", b"\2", b"\3"):
            async with visitor(rig.port, Mute) as v:
                v.send(2, kind, True)
                await v.until(lambda: v.closed is not None)
                assert v.closed == (CRITICAL, "stream error")
        async with visitor(rig.port, Mute) as v:
            v.send(2, CONTROL)
            v.reset(2)
            await v.until(lambda: v.closed is not None)
            assert v.closed == (INTERNAL, "stream error")

    rig.run(main)


def test_reset_streams_leave_the_others(rig: Rig) -> None:
    async def main(rig: Rig) -> None:
        async with visitor(rig.port, max_stream_data=100_000) as v:
            v.send(0, PAGE[:5])
            v.reset(0)
            await v.until(lambda: v.answer(0).reset is not None)
            assert v.answer(0).reset == INTERNAL
            v.send(4, headers(lines_of("/big.bin")), True)
            await v.until(lambda: len(v.answer(4).body) > 1000)
            v._quic.stop_stream(4, 0x10C)
            v.transmit()
            v.send(8, PAGE, True)
            await v.until(lambda: v.answer(8).over and v.answer(4).over)
            assert (v.answer(8).status, v.answer(4).reset) == ("200", INTERNAL)
            await v.until(lambda: v.raw[7] == b"\x03\x40")  # the encoder is told of the head that was not read

    rig.run(main)


def test_a_head_may_use_the_dynamic_table(rig: Rig) -> None:
    """Index 62: one entry, inserted by the encoder stream; the head comes first and waits for it."""

    async def main(rig: Rig) -> None:
        async with visitor(rig.port, Mute) as v:
            v.send(0, frame(HEADERS, b"\x02\0\xd1\xd7\x80\x50\x01a"), True)
            v.send(2, b"\x02\x3f\xe1\x1f\xc1\x01/")
            await v.until(lambda: bytes(v.raw.get(0, b"")).endswith(b"<p>hello</p>\n"))
            assert v.raw[7].endswith(b"\x80"), "acknowledged"

    rig.run(main)


@given(st.binary(max_size=300))
def test_huffman_code_is_that_of_another_implementation(text: bytes) -> None:
    assert huffman(text) == HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode(text)
    assert huffman_bytes(text) == len(huffman(text))


NAMES = st.one_of(
    st.sampled_from([b"server", b"date", b"location", b"etag"]), st.from_regex(rb"[a-z-]{1,30}", fullmatch=True)
)


@given(st.sampled_from([b"200", b"404", b"206"]), st.lists(st.tuples(NAMES, st.binary(max_size=400)), max_size=8))
def test_any_header_section_is_read_by_another_implementation(status: bytes, lines: list[tuple[bytes, bytes]]) -> None:
    fields = [(b":status", status), *lines]
    assert pylsqpack.Decoder(0, 0).feed_header(0, encode(fields))[1] == fields


@given(st.lists(st.tuples(st.sampled_from([1, 0x21, 0x4021]), st.binary(max_size=90)), max_size=5), st.data())
def test_frames_cut_anywhere_are_the_same(sent: list[tuple[int, bytes]], data: st.DataObject) -> None:
    raw = b"".join(frame(kind, payload) for kind, payload in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    frames, got = Frames(wanted_in_request_untrusted), list[tuple[int, bytes]]()
    for start, end in zip([0, *cuts], [*cuts, len(raw)]):
        got += frames.feed_untrusted(raw[start:end])
    assert got == [(kind, payload) for kind, payload in sent if kind == HEADERS]


@given(st.binary(max_size=200))
def test_any_bytes_are_frames_or_the_declared_error(raw: bytes) -> None:
    for rules in (wanted_in_request_untrusted, ControlRules().wanted_untrusted):
        try:
            for _, payload in Frames(rules).feed_untrusted(raw):
                settings_untrusted(payload)
        except Malformed:
            pass


@given(st.lists(st.tuples(st.one_of(st.sampled_from([b":method", b":path", b":scheme", b":authority", b"host"]),
                                    st.binary(max_size=9)), st.binary(max_size=20)), max_size=8))  # fmt: skip
def test_any_fields_are_a_request_or_the_declared_error(fields: list[tuple[bytes, bytes]]) -> None:
    try:
        request_untrusted(fields)
    except Malformed:
        pass
