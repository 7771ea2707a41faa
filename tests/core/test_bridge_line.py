"""Bridge lines: read back as written, and every fault is named."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phantomband.core.bridge_line import TRANSPORTS, BridgeLine, parse_all
from phantomband.core.errors import UserError
from phantomband.core.ids import NodeId
from phantomband.core.netdir.address import NodeAddress

NODE, KEY, NETWORK = "11" * 32, "22" * 32, "ab" * 32
GOOD = f"Bridge tls 192.0.2.1:443 {NODE} link-key={KEY} network={NETWORK}"


def test_a_line_with_a_parameter() -> None:
    bridge = BridgeLine.parse(f"{GOOD} sni=example.org path=%2Fa%20b")
    assert bridge.address == NodeAddress("tls", "192.0.2.1", 443, (("path", "/a b"), ("sni", "example.org")))
    assert (bridge.node_id.hex(), bridge.link_key.hex(), bridge.network_id.hex()) == (NODE, KEY, NETWORK)
    assert bridge.text() == f"{GOOD} path=%2Fa%20b sni=example.org"
    assert "192" not in repr(bridge)


def test_the_word_may_be_left_out_and_order_does_not_matter() -> None:
    assert BridgeLine.parse(GOOD.removeprefix("Bridge ")) == BridgeLine.parse(GOOD)
    assert BridgeLine.parse(f"  bridge tls 192.0.2.1:443 {NODE} network={NETWORK}  link-key={KEY}\n").text() == GOOD


addresses = st.builds(
    NodeAddress,
    st.sampled_from(["tcp", "tls", "quic"]),
    st.ip_addresses().filter(lambda ip: not getattr(ip, "scope_id", None)).map(str),
    st.integers(1, 65535),
    st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).filter(lambda n: n != "network"),
        st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20),
        max_size=4,
    ).map(lambda values: tuple(sorted(values.items()))),
)
ids = st.binary(min_size=32, max_size=32)
keys = st.binary(min_size=31, max_size=31).map(lambda raw: raw + b"\3")
"""Of 32 bytes, canonical and of no small order."""


@settings(deadline=None)
@given(bridge=st.builds(BridgeLine, addresses, ids.map(NodeId), keys, ids))
def test_round_trip(bridge: BridgeLine) -> None:
    assert BridgeLine.parse(bridge.text()) == bridge


@settings(deadline=None)
@given(text=st.text(max_size=300))
def test_any_text_is_a_line_or_a_users_mistake(text: str) -> None:
    for line in (text, f"Bridge tls {text}", f"{GOOD} {text}"):
        try:
            assert BridgeLine.parse(line).address.transport in TRANSPORTS
        except UserError:
            pass


WRONG = {
    "": "has the form",
    "Bridge tls": "has the form",
    "x" * 5000: "has the form",
    GOOD.replace("tls", "meek"): "transport 'meek' is unknown",
    GOOD.replace("192.0.2.1", "example.org"): "never a name",
    GOOD.replace(":443", ""): "IP:PORT",
    GOOD.replace(":443", ":99999"): "IP:PORT",
    GOOD.replace(NODE, "12ab"): "the node id must be 64 hex digits, not '12ab'",
    GOOD.replace(KEY, "z" * 64): "link-key must be 64 hex digits",
    GOOD.replace(KEY, "00" * 32): "link-key is of small order",
    GOOD.replace(KEY, "ff" * 32): "link-key is not written canonically",
    GOOD.replace(f" link-key={KEY}", ""): "link-key= is missing",
    GOOD.replace(f" network={NETWORK}", ""): "network= is missing",
    f"{GOOD} network={NETWORK}": "stands there twice",
    f"{GOOD} sni": "not of the form name=value",
    f"{GOOD} Sni=x": "cannot be used",
}


@pytest.mark.parametrize(("line", "message"), WRONG.items(), ids=range(len(WRONG)))
def test_what_is_wrong_is_said(line: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        BridgeLine.parse(line)


def test_several_lines_are_of_one_network() -> None:
    assert parse_all([GOOD, GOOD]) == (BridgeLine.parse(GOOD),) * 2
    assert parse_all([]) == ()
    with pytest.raises(UserError, match="different networks"):
        parse_all([GOOD, GOOD.replace(NETWORK, "cd" * 32)])
    with pytest.raises(UserError, match="bridge 2 of 2"):
        parse_all([GOOD, "tls"])


def test_an_obfs4_line_has_the_form_that_other_programs_write() -> None:
    cert = "MKNSOyVv6UQP3lfP4EA9hC2/1IkkrHjZp70DS8Qp4LsQKEZ80LDxJWiRCxyZeNb4F2+Mw"
    line = f"{GOOD.replace('tls', 'obfs4')} cert={cert} iat-mode=0"
    bridge = BridgeLine.parse(line)
    assert bridge.address.parameters == (("cert", cert), ("iat_mode", "0"))
    assert bridge.text() == line
    with pytest.raises(UserError, match="twice"):
        BridgeLine.parse(f"{line} iat_mode=1")


def test_lines_for_external_programs_have_hyphens_and_plain_urls() -> None:
    text = (
        f"Bridge snowflake 192.0.2.3:1 {NODE} link-key={KEY} network={NETWORK} "
        "ice=stun:192.0.2.9:3478,stun:192.0.2.8:1 url=https://example.org/a utls-imitate=hellorandomizedalpn"
    )
    bridge = BridgeLine.parse(text, ("snowflake",))
    assert dict(bridge.address.parameters)["utls_imitate"] == "hellorandomizedalpn"
    assert dict(bridge.address.parameters)["url"] == "https://example.org/a"
    assert bridge.text() == text
    with pytest.raises(UserError, match=r"'snowflake' is unknown.*--pt"):
        BridgeLine.parse(text)
    assert parse_all([text], ["snowflake"]) == (bridge,)
