"""Exit policies: parsing, canonical text, decisions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phantomband.core.errors import Malformed, UserError
from phantomband.core.netdir.exit_policy import ExitPolicy

LINES = [
    "accept *:80",
    "accept *:8000-8999",
    "accept *:*",
    "reject *:25",
    "reject private:*",
    "reject 10.0.0.0/8:*",
    "accept 192.0.2.7:443",
    "accept [2001:db8::]/32:443",
    "reject [2001:db8::1]:1-1024",
]


@given(st.lists(st.sampled_from(LINES), max_size=12))
def test_canonical_text_round_trip(lines: list[str]) -> None:
    policy = ExitPolicy.parse(lines)
    assert ExitPolicy.decode_untrusted(policy.text()) == policy
    assert policy.text() == "\n".join(lines)


@given(st.text(alphabet="aceptrj *:0123456789./[]-\nprivate", max_size=60))
def test_any_text_is_a_policy_or_malformed(text: str) -> None:
    try:
        assert ExitPolicy.decode_untrusted(text).text() == text
    except Malformed:
        pass


def test_first_match_decides_and_nothing_matches_is_reject() -> None:
    policy = ExitPolicy.parse(["reject 192.0.2.0/24:80", "accept *:80  # web", "", "accept [2620::]/16:22"])
    assert not policy.allows("192.0.2.9", 80)
    assert policy.allows("198.41.0.4", 80)
    assert not policy.allows("198.41.0.4", 81)
    assert policy.allows("2620::1", 22)
    assert not policy.allows("198.41.0.4", 22)
    assert policy.allows("2620::1", 80)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "255.255.255.255",
        "::1", "::", "fe80::1", "fd00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1",
        "::127.0.0.1",
        "2002:7f00:1::", "fe80::1%eth0", "localhost", "",
    ],
)  # fmt: skip
def test_private_rejects_what_is_not_public(address: str) -> None:
    policy = ExitPolicy.parse(["reject private:*", "accept *:*"])
    assert not policy.allows(address, 80)
    assert policy.allows("8.8.8.8", 80)
    assert policy.allows("2606:4700::1111", 80)


def test_might_allow_port() -> None:
    policy = ExitPolicy.parse(["reject private:*", "reject *:25", "accept *:20-30", "accept 9.9.9.9:853"])
    assert not policy.might_allow_port(25)
    assert policy.might_allow_port(22)
    assert policy.might_allow_port(853)
    assert not policy.might_allow_port(443)
    assert not ExitPolicy().might_allow_port(80)
    assert not ExitPolicy.parse(["reject *:*", "accept *:80"]).might_allow_port(80)


@pytest.mark.parametrize(
    "line",
    [
        "accept",
        "allow *:80",
        "accept *:0",
        "accept *:90-80",
        "accept 10.0.0.1/8:*",
        "accept 2001:db8::1:80",
        "accept [10.0.0.0]/8:80",
        "accept *:70000",
        "accept [::ffff:1.2.3.4]:80",
    ],
)
def test_a_wrong_line_names_itself(line: str) -> None:
    with pytest.raises(UserError, match="Exit policy rule"):
        ExitPolicy.parse([line])


@pytest.mark.parametrize("text", ["accept *:080", "accept  *:80", "accept *:80\n", "accept *:1-65535", "#"])
def test_other_spellings_are_malformed_on_the_wire(text: str) -> None:
    with pytest.raises(Malformed):
        ExitPolicy.decode_untrusted(text)


def test_too_long() -> None:
    with pytest.raises(UserError, match="over 1024"):
        ExitPolicy.parse([f"accept 1.2.3.{i}:80" for i in range(100)])
