"""JA3 and JA4 from bytes: ours beside another implementation, and any bytes at all."""

from __future__ import annotations

import asyncio
import datetime
import struct
import subprocess
from pathlib import Path

import pytest
from e2e_net import need
from hypothesis import given
from hypothesis import strategies as st
from phantomband.core.errors import Malformed
from phantomband.transports.browser import hello as hellos
from phantomband.transports.browser.persona import load_all
from phantomband_cli import fingerprint
from utls import Fingerprint


@pytest.fixture(scope="module", params=fingerprint.TRANSPORTS)
def raw(request: pytest.FixtureRequest) -> bytes:
    """What our client sent."""
    return asyncio.run(fingerprint.capture(request.param, load_all()[0])).hello


def test_two_implementations_of_ja4_agree(raw: bytes) -> None:
    hello = hellos.parse_untrusted(raw)
    assert hello is not None
    assert hellos.ja4(hello) == Fingerprint.from_capture(raw[: 5 + int.from_bytes(raw[3:5], "big")]).ja4_hash


def test_tshark_gives_the_same_ja3(raw: bytes, tmp_path: Path) -> None:
    tshark = need("tshark", "tshark")
    hello = hellos.parse_untrusted(raw)
    assert hello is not None
    record = raw[: 5 + int.from_bytes(raw[3:5], "big")]
    tcp = struct.pack(">HHIIBBHHH", 40000, 443, 1, 1, 0x50, 0x18, 65535, 0, 0) + record
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), 1, 0, 64, 6, 0, b"\x0a\0\0\1", b"\x0a\0\0\2")
    packet = ip + tcp
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 101)
    file = tmp_path / "hello.pcap"
    file.write_bytes(head + struct.pack("<IIII", 0, 0, len(packet), len(packet)) + packet)
    fields = ["-e", "tls.handshake.ja3", "-e", "tls.handshake.ja3_full"]
    out = subprocess.run(
        [tshark, "-r", str(file), "-T", "fields", *fields], check=True, capture_output=True, text=True, timeout=60
    ).stdout.split()
    assert out == [hellos.ja3(hello), hellos.ja3_text(hello)]


def test_extensions_are_shuffled_and_ja4_stays() -> None:
    seen = [asyncio.run(fingerprint.capture("tls", load_all()[0])).hello for _ in range(4)]
    parsed = [hello for raw in seen if (hello := hellos.parse_untrusted(raw)) is not None]
    assert len({hellos.ja3(hello) for hello in parsed}) > 1
    assert len({hellos.ja3(hello, ordered=True) for hello in parsed}) == 1
    assert len({hellos.ja4(hello) for hello in parsed}) == 1


@pytest.mark.parametrize(
    ("protocol", "said"),
    [
        (b"h2", "h2"), (b"http/1.1", "h1"), (b"x", "xx"), (b"", "00"), (b"\x99", "99"), (b"h\xe9", "69"),
        (b"\xab", "ab"), (b"\xab\xcd", "ad"), (b"-h", "28"), (b"\xe9z", "ea"),
    ],
)  # fmt: skip
def test_a_protocol_that_is_not_ascii_stands_by_its_hex_digits(protocol: bytes, said: str) -> None:
    """FoxIO-LLC/ja4, technical_details/JA4.md, "ALPN Extension Value"."""
    listed = bytes((len(protocol),)) + protocol
    body = len(listed).to_bytes(2, "big") + listed
    hello = hellos.ClientHello(0x0303, (0x1301,), ((hellos.ALPN, body),))
    assert hellos.ja4(hello).split("_")[0] == f"t12i0101{said}"


def test_a_part_is_no_hello_yet(raw: bytes) -> None:
    size = 5 + int.from_bytes(raw[3:5], "big")
    for end in range(0, size, 13):
        assert hellos.parse_untrusted(raw[:end]) is None


def test_a_hello_in_several_records_is_the_same(raw: bytes) -> None:
    size = int.from_bytes(raw[3:5], "big")
    body = raw[5 : 5 + size]
    parts = [body[:3], body[3:900], body[900:]]
    records = b"".join(b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part for part in parts)
    assert hellos.parse_untrusted(records) == hellos.parse_untrusted(raw)


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_a_hello_or_malformed(data: bytes, framed: bool) -> None:
    if framed:
        data = b"\x16\x03\x01" + (len(data) + 4).to_bytes(2, "big") + b"\x01" + len(data).to_bytes(3, "big") + data
    try:
        hello = hellos.parse_untrusted(data)
    except Malformed:
        return
    if hello is not None:
        assert len(hellos.ja4(hello)) == 36
        assert len(hellos.ja3(hello)) == 32


def test_the_report_has_everything() -> None:
    persona = load_all()[0]
    today = persona.date + datetime.timedelta(days=200)
    found = fingerprint.report("websocket", persona, today)
    assert found["ja4"].startswith("t13d1516h1_")
    assert found["alpn"] == ["http/1.1"]
    assert found["request"] == "GET /example HTTP/1.1"
    assert [name for name, _ in found["headers"]] == [name for name, _ in persona.headers.websocket]
    assert found["persona"]["age_days"] == 200
    assert "warning:" in "\n".join(fingerprint.text(found))
