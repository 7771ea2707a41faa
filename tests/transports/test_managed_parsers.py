"""Everything that comes from a transport program, or goes to one, as text or bytes."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phantomband.core.errors import Forged, Malformed, UserError
from phantomband.transports.managed import arguments, extended_port, messages
from phantomband.transports.managed.extended_port import Calling, Serving
from phantomband.transports.managed.messages import parse_untrusted
from phantomband.transports.managed.scrub import MAX_TEXT, scrub
from phantomband.transports.managed.socks import Dialling
from phantomband_cli.pt.socks import MAX_JSON, Accepting, Wanted

COOKIE = bytes(range(32))

LINES: list[tuple[bytes, messages.Message]] = [
    (b"VERSION 1", messages.Version("1")),
    (b"VERSION-ERROR no-version", messages.Failed("VERSION-ERROR", "no-version")),
    (b"ENV-ERROR No TOR_PT_AUTH_COOKIE_FILE when", messages.Failed("ENV-ERROR", "No TOR_PT_AUTH_COOKIE_FILE when")),
    (b"PROXY DONE", messages.ProxyDone()),
    (b"PROXY-ERROR SOCKS 4 upstream", messages.Failed("PROXY-ERROR", "SOCKS 4 upstream")),
    (b"CMETHOD trebuchet socks5 127.0.0.1:19999", messages.Method("trebuchet", "127.0.0.1", 19999, "socks5")),
    (b"CMETHOD trebuchet socks5 [::1]:19999\r", messages.Method("trebuchet", "::1", 19999, "socks5")),
    (b"CMETHOD-ERROR trebuchet no rocks available", messages.MethodFailed("trebuchet", "no rocks available")),
    (b"CMETHODS DONE", messages.MethodsDone("CMETHODS")),
    (b"SMETHOD trebuchet 198.51.100.1:19999", messages.Method("trebuchet", "198.51.100.1", 19999, arguments={})),
    (
        b"SMETHOD rot_by_N 198.51.100.1:2323 ARGS:N=13",
        messages.Method("rot_by_N", "198.51.100.1", 2323, "", {"N": "13"}),
    ),
    (
        b"SMETHOD x 192.0.2.1:1 FUTURE:1 ARGS:a=1\\,2,b\\=c=\\\\",
        messages.Method("x", "192.0.2.1", 1, arguments={"a": "1,2", "b=c": "\\"}),
    ),
    (b"SMETHOD-ERROR trebuchet no cows available", messages.MethodFailed("trebuchet", "no cows available")),
    (b"SMETHODS DONE", messages.MethodsDone("SMETHODS")),
    (b'LOG SEVERITY=debug MESSAGE="Connected to bridge A"', messages.Log("debug", "Connected to bridge A")),
    (b'LOG SEVERITY=warning MESSAGE="a \\"b\\" c"', messages.Log("warning", 'a "b" c')),
    (b"LOG WARN This is one of 2.2", messages.Log("warning", "This is one of 2.2")),
    (
        b'STATUS TRANSPORT=obfs4 CONNECT=Failed ERRSTR="Connection refused"',
        messages.Status("obfs4", {"CONNECT": "Failed", "ERRSTR": "Connection refused"}),
    ),
    (
        b'STATUS TYPE=version IMPLEMENTATION="lyrebird" VERSION="devel"',
        messages.Status("", {"TYPE": "version", "IMPLEMENTATION": "lyrebird", "VERSION": "devel"}),
    ),
    (
        b"SMETHOD snowflake 192.0.2.1:443 ARGS:hostname=a.example,hostname=b.example,tls=yes",
        messages.Method("snowflake", "192.0.2.1", 443, arguments={"hostname": "a.example", "tls": "yes"}),
    ),
    (b"FUTURE thing", messages.Unknown()),
    (b"", messages.Unknown()),
]
"""Most are the examples of pt-spec, section 3.3; the last two are what lyrebird and snowflake's server say."""


@pytest.mark.parametrize(("line", "message"), LINES)
def test_lines_of_the_specification(line: bytes, message: messages.Message) -> None:
    assert parse_untrusted(line) == message


@pytest.mark.parametrize(
    "line",
    [
        b"VERSION",
        b"VERSION 1 2",
        b"PROXY",
        b"CMETHODS",
        b"SMETHODS DUN",
        b"CMETHOD x socks5",
        b"CMETHOD x http 127.0.0.1:1",
        b"CMETHOD x socks5 localhost:1",
        b"CMETHOD x socks5 127.0.0.1:65536",
        b"CMETHOD x socks5 ::1:80",
        b"CMETHOD x-y socks5 127.0.0.1:1",
        b"SMETHOD x 127.0.0.1",
        b"SMETHOD x 127.0.0.1:1 ARGS:a",
        b"SMETHOD x 127.0.0.1:1 ARGS:" + b",".join([b"a=1"] * (arguments.MAX_ARGUMENTS + 1)),
        b"LOG",
        b"LOG SEVERITY=loud MESSAGE=x",
        b"LOG SEVERITY=info",
        b"STATUS X",
        b'LOG SEVERITY=info MESSAGE="x',
        b"VERSION \0",
        b"X" * (messages.MAX_LINE + 1),
    ],
)
def test_lines_that_are_none(line: bytes) -> None:
    with pytest.raises(Malformed):
        parse_untrusted(line)


KEYWORDS = sorted({line.split(b" ")[0] for line, _ in LINES if line})


@given(st.sampled_from(KEYWORDS), st.binary(max_size=200) | st.text('=,;:\\" ab1.[]', max_size=80).map(str.encode))
def test_any_line_gives_a_message_or_the_declared_error(keyword: bytes, rest: bytes) -> None:
    for line in (rest, keyword + b" " + rest):
        try:
            parse_untrusted(line)
        except Malformed:
            pass


pairs = st.dictionaries(st.text(min_size=1, max_size=12), st.text(max_size=30), max_size=6)
names = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)
Split = Callable[[str], Any]


@given(pairs)
def test_arguments_come_back(given_pairs: dict[str, str]) -> None:
    assert arguments.split_client_untrusted(arguments.join_client(given_pairs)) == given_pairs
    assert arguments.split_server_untrusted(arguments.join_server(given_pairs)) == given_pairs


@given(st.dictionaries(names, pairs.filter(bool), max_size=3))
def test_options_of_several_transports_come_back(options: dict[str, dict[str, str]]) -> None:
    text = ";".join(arguments.join_options(name, values) for name, values in options.items())
    assert arguments.split_options_untrusted(text) == options


def test_the_example_of_the_specification() -> None:
    text = "scramblesuit:key=banana;automata:rule=110;automata:depth=3"
    assert arguments.split_options_untrusted(text) == {
        "scramblesuit": {"key": "banana"},
        "automata": {"rule": "110", "depth": "3"},
    }
    assert arguments.join_client({"k": "a;b=c\\"}) == "k=a\\;b\\=c\\\\"


def test_a_certificate_with_padding_need_not_be_escaped() -> None:
    assert arguments.split_client_untrusted("cert=ab==;iat-mode=0") == {"cert": "ab==", "iat-mode": "0"}


@given(st.text("=,;:\\ab", max_size=40))
def test_any_arguments_give_pairs_or_the_declared_error(text: str) -> None:
    for split in (
        arguments.split_client_untrusted,
        arguments.split_server_untrusted,
        arguments.split_options_untrusted,
    ):
        try:
            split(text)  # type: ignore[operator]
        except Malformed:
            pass


@given(pairs)
def test_user_name_and_password_carry_arguments(given_pairs: dict[str, str]) -> None:
    try:
        user, password = arguments.socks_credentials(given_pairs)
    except Malformed:
        assert len(arguments.join_client(given_pairs).encode()) > 510
        return
    assert len(user) <= 255
    assert 1 <= len(password) <= 255
    assert arguments.of_credentials_untrusted(user, password) == given_pairs


def test_names_change_their_hyphens() -> None:
    assert arguments.from_program_untrusted({"iat-mode": "1"}) == {"iat_mode": "1"}
    assert arguments.to_program({"iat_mode": "1"}) == {"iat-mode": "1"}
    for name in ("a_b", "N", "1x", "", "ä"):
        with pytest.raises(Malformed):
            arguments.from_program_untrusted({name: ""})


SAYINGS = [
    "connect to 192.0.2.77:443 failed",
    "dial [2001:db8::7]:80",
    "at 2001:db8::7",
    "fetch https://front.example.org/x?y=1 now",
    "lookup cdn.example.net: no such host",
    "cert=ssH+9rP8dG2NLDN2XuFw63hIO/9MNNinLmxQDpVa+7kTOa9/m+tGWT1SmSYpQ9uTBGa6Hw",
    "bridge 0123456789ABCDEF0123456789ABCDEF01234567",
]


def test_what_programs_say_is_scrubbed() -> None:
    for saying in SAYINGS:
        clean = scrub(saying)
        assert "[scrubbed]" in clean, saying
        for secret in ("192.0.2", "2001", "example", "ssH+", "01234567"):
            assert secret not in clean, (saying, clean)
    assert scrub("connection refused (exit code 3)") == "connection refused (exit code 3)"
    assert len(scrub("word " * 1000)) <= MAX_TEXT + 3
    assert "\x1b" not in scrub("\x1b[31mred")


# ---- the extended ORPort ---------------------------------------------------------------------------------------------


def talk(a: Any, b: Any, dice: random.Random) -> tuple[bytes, bytes]:
    """Both ends until both are done, cut anyhow; what each has left."""
    rests: dict[int, bytes | None] = {0: None, 1: None}
    wires = [bytearray(b.take_reply()), bytearray(a.take_reply())]  # towards a, towards b
    while None in rests.values():
        for at, end in enumerate((a, b)):
            cut = dice.randint(0, len(wires[at]))
            data, wires[at] = bytes(wires[at][:cut]), wires[at][cut:]
            if data and rests[at] is None:
                rests[at] = end.receive_untrusted(data)
                wires[1 - at] += end.take_reply()
    return bytes(rests[0] or b""), bytes(rests[1] or b"")


@pytest.mark.parametrize("seed", range(20))
def test_the_extended_port_says_who_came(seed: int) -> None:
    dice = random.Random(seed)
    serving = Serving(COOKIE, dice.randbytes)
    calling = Calling(COOKIE, "obfs4", "[2001:db8::5]:99" if seed % 2 else "192.0.2.5:99", dice.randbytes)
    assert talk(serving, calling, dice) == (b"", b"")
    assert len(serving.peer_ip) == (16 if seed % 2 else 4)


def test_who_does_not_know_the_cookie_is_refused() -> None:
    dice = random.Random(1)
    with pytest.raises(Forged):
        talk(Serving(COOKIE, dice.randbytes), Calling(bytes(32), "x", "", dice.randbytes), dice)
    serving = Serving(COOKIE, dice.randbytes)
    serving.take_reply()
    serving.receive_untrusted(b"\1" + bytes(32))
    assert len(serving.take_reply()) == 64
    with pytest.raises(Forged):
        serving.receive_untrusted(bytes(32))
    assert serving.take_reply() == b"\0"


def test_bodies_and_commands_are_bounded() -> None:
    dice = random.Random(2)
    for commands in (b"\0\x09\xff\xff", b"\0\x09\0\0" * 17, b"\0\x01\0\x03abc"):
        serving, calling = Serving(COOKIE, dice.randbytes), Calling(COOKIE, "", "", dice.randbytes)
        calling.receive_untrusted(serving.take_reply())
        serving.receive_untrusted(calling.take_reply())
        calling.receive_untrusted(serving.take_reply())
        proof = calling.take_reply()
        assert serving.receive_untrusted(proof) is None
        with pytest.raises(Malformed):
            serving.receive_untrusted(commands)


@pytest.mark.parametrize("count", [255, 256, 300])
def test_a_bound_does_not_depend_on_how_the_bytes_were_cut(count: int) -> None:
    data = bytes((2,)) * (count - 1) + b"\1\0"

    def taken(pieces: list[bytes]) -> bool:
        calling = Calling(COOKIE, "x", "", random.Random(0).randbytes)
        try:
            for piece in pieces:
                calling.receive_untrusted(piece)
        except Malformed:
            return False
        return True

    assert taken([data]) is taken([data[:200], data[200:]]) is taken([bytes((b,)) for b in data]) is (count <= 255)


def test_cookie_files(tmp_path: Path) -> None:
    path = tmp_path / "cookie"
    secret = extended_port.new_cookie(path, random.Random(3).randbytes)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes() == b"! Extended ORPort Auth Cookie !\n" + secret
    assert extended_port.read_cookie(path) == secret
    path.write_bytes(b"x" * 64)
    with pytest.raises(UserError):
        extended_port.read_cookie(path)
    with pytest.raises(UserError):
        extended_port.read_cookie(tmp_path / "none")


def machines() -> list[Any]:
    dice = random.Random(4)
    return [
        Serving(COOKIE, dice.randbytes),
        Calling(COOKIE, "x", "", dice.randbytes),
        Dialling("192.0.2.1", 80, {}),
        Dialling("2001:db8::1", 80, {"a": "b"}),
        Accepting(),
    ]


@given(
    st.lists(st.binary(max_size=80), max_size=8),
    st.sampled_from([b"", b"\1\0", b"\5\0", b"\5\2", b"\5\1\0", b"\5\1\x09"]),
)
def test_any_bytes_give_progress_or_the_declared_error(pieces: list[bytes], first: bytes) -> None:
    for machine in machines():
        try:
            for piece in (first, *pieces):
                if machine.receive_untrusted(piece) is not None:
                    break
        except Malformed:
            pass


# ---- SOCKS -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("given_arguments", [{}, {"cert": "a;b=" + "c" * 300, "iat-mode": "0"}])
@pytest.mark.parametrize("host", ["192.0.2.9", "2001:db8::9"])
def test_our_two_ends_of_socks_understand_each_other(seed: int, given_arguments: dict[str, str], host: str) -> None:
    dice = random.Random(seed)
    dialling, accepting = Dialling(host, 4433, given_arguments), Accepting()
    wire, rest = bytearray(dialling.take_reply()), None
    while rest is None:
        cut = dice.randint(1, len(wire))
        rest = accepting.receive_untrusted(bytes(wire[:cut]))
        del wire[:cut]
        if (answer := accepting.take_reply()) and rest is None:
            assert dialling.receive_untrusted(answer) is None
            wire += dialling.take_reply()
    assert accepting.wanted == Wanted(host, 4433, given_arguments)
    assert dialling.receive_untrusted(b"\5\0\0\1\0\0\0\0\0\0early") == b"early"


def test_a_name_is_not_looked_up() -> None:
    accepting = Accepting()
    accepting.receive_untrusted(b"\5\1\0")
    accepting.take_reply()
    with pytest.raises(Malformed):
        accepting.receive_untrusted(b"\5\1\0\3\x0bexample.org\0\x50")
    assert accepting.take_reply()[1] == 8


def test_arguments_as_json() -> None:
    block = b'{"cert": "x", "iat-mode": 1}'
    accepting = Accepting()
    sent = b"\5\1\x09" + len(block).to_bytes(4, "big") + block + b"\5\1\0\1\xc0\0\2\1\0\x50more"
    assert accepting.receive_untrusted(sent) == b"more"
    assert accepting.wanted == Wanted("192.0.2.1", 80, {"cert": "x", "iat-mode": "1"})
    for bad in (b"[]", b'{"a": []}', b"{", b'{"a": null}'):
        with pytest.raises(Malformed):
            Accepting().receive_untrusted(b"\5\1\x09" + len(bad).to_bytes(4, "big") + bad)
    with pytest.raises(Malformed):
        Accepting().receive_untrusted(b"\5\1\x09" + (MAX_JSON + 1).to_bytes(4, "big"))


@pytest.mark.parametrize(("answer", "why"), [(b"\5\xff", "no parameters"), (b"\5\0\5\5\0\1", "connection refused")])
def test_a_program_that_cannot_connect(answer: bytes, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        Dialling("192.0.2.1", 80, {}).receive_untrusted(answer)
