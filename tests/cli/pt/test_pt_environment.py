"""What `phantomband pt` makes of its environment, and what it keeps for obfs4."""

from __future__ import annotations

import io
import json
import random
import shutil
from collections.abc import Mapping
from pathlib import Path

import managed_pt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from phantomband.core.errors import UserError
from phantomband.transports.base import Address
from phantomband.transports.managed.extended_port import new_cookie
from phantomband.transports.obfs4.transport import Obfs4Transport
from phantomband_cli.pt import obfs4_state
from phantomband_cli.pt.client import parameters_untrusted
from phantomband_cli.pt.command import OFFERED, run_pt
from phantomband_cli.pt.environment import ClientSetup, ServerSetup, Unusable, read
from phantomband_cli.pt.obfs4_state import load
from phantomband_cli.pt.socks import Wanted
from phantomband_cli.pt.talk import LINES, Talk

COMMON = {"TOR_PT_MANAGED_TRANSPORT_VER": "1", "TOR_PT_STATE_LOCATION": "/tmp/state"}
CLIENT = {**COMMON, "TOR_PT_CLIENT_TRANSPORTS": "obfs4,future"}
SERVER = {**COMMON, "TOR_PT_SERVER_TRANSPORTS": "obfs4,tls", "TOR_PT_ORPORT": "127.0.0.1:9001"}


def test_a_client() -> None:
    setup = read(CLIENT | {"TOR_PT_EXIT_ON_STDIN_CLOSE": "1", "TOR_PT_PROXY": "socks5://u:p@192.0.2.1:1080"})
    assert isinstance(setup, ClientSetup)
    assert setup.common.transports == ("obfs4", "future")
    assert setup.common.exit_on_stdin_close
    assert setup.proxy


def test_a_server(tmp_path: Path) -> None:
    more = {
        "TOR_PT_SERVER_BINDADDR": "obfs4-192.0.2.1:443,tls-[2001:db8::1]:444",
        "TOR_PT_SERVER_TRANSPORT_OPTIONS": "obfs4:iat-mode=1;tls:x=a\\;b",
    }
    setup = read(SERVER | more)
    assert isinstance(setup, ServerSetup)
    assert setup.bind == {"obfs4": ("192.0.2.1", 443), "tls": ("2001:db8::1", 444)}
    assert setup.options == {"obfs4": {"iat-mode": "1"}, "tls": {"x": "a;b"}}
    assert (setup.forward, setup.cookie) == (("127.0.0.1", 9001), None)
    secret = new_cookie(tmp_path / "cookie", random.Random(1).randbytes)
    extended = {
        "TOR_PT_EXTENDED_SERVER_PORT": "127.0.0.1:9002",
        "TOR_PT_AUTH_COOKIE_FILE": str(tmp_path / "cookie"),
    }
    setup = read(SERVER | extended)
    assert isinstance(setup, ServerSetup)
    assert (setup.forward, setup.cookie) == (("127.0.0.1", 9002), secret)


WRONG: dict[str, tuple[Mapping[str, str], str]] = {
    "no version": ({}, "ENV-ERROR TOR_PT_MANAGED_TRANSPORT_VER"),
    "another version": (CLIENT | {"TOR_PT_MANAGED_TRANSPORT_VER": "9,10"}, "VERSION-ERROR no-version"),
    "no role": (COMMON, "ENV-ERROR one of"),
    "both roles": (CLIENT | SERVER, "ENV-ERROR one of"),
    "no state": (CLIENT | {"TOR_PT_STATE_LOCATION": ""}, "ENV-ERROR TOR_PT_STATE_LOCATION"),
    "state somewhere": (CLIENT | {"TOR_PT_STATE_LOCATION": "x"}, "ENV-ERROR TOR_PT_STATE_LOCATION"),
    "stdin": (CLIENT | {"TOR_PT_EXIT_ON_STDIN_CLOSE": "yes"}, "ENV-ERROR TOR_PT_EXIT"),
    "names": (CLIENT | {"TOR_PT_CLIENT_TRANSPORTS": "a-b"}, "ENV-ERROR the list"),
    "proxy": (CLIENT | {"TOR_PT_PROXY": "http://proxy.example:80"}, "PROXY-ERROR"),
    "proxy without port": (CLIENT | {"TOR_PT_PROXY": "http://192.0.2.1"}, "PROXY-ERROR"),
    "no port": (SERVER | {"TOR_PT_ORPORT": ""}, "ENV-ERROR TOR_PT_ORPORT"),
    "a name for a port": (SERVER | {"TOR_PT_ORPORT": "localhost:1"}, "ENV-ERROR TOR_PT_ORPORT"),
    "bind": (SERVER | {"TOR_PT_SERVER_BINDADDR": "obfs4"}, "ENV-ERROR TOR_PT_SERVER_BINDADDR"),
    "bind twice": (SERVER | {"TOR_PT_SERVER_BINDADDR": "a-1.2.3.4:1,a-1.2.3.4:2"}, "ENV-ERROR TOR_PT_SERVER_BINDADDR"),
    "options": (SERVER | {"TOR_PT_SERVER_TRANSPORT_OPTIONS": "obfs4"}, "ENV-ERROR TOR_PT_SERVER_TRANSPORT_OPTIONS"),
    "no cookie": (SERVER | {"TOR_PT_EXTENDED_SERVER_PORT": "127.0.0.1:1"}, "ENV-ERROR TOR_PT_AUTH_COOKIE_FILE"),
    "cookie gone": (
        SERVER | {"TOR_PT_EXTENDED_SERVER_PORT": "127.0.0.1:1", "TOR_PT_AUTH_COOKIE_FILE": "/nowhere"},
        "ENV-ERROR TOR_PT_AUTH_COOKIE_FILE",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_environments_are_named(wrong: str) -> None:
    environment, said = WRONG[wrong]
    with pytest.raises(Unusable) as caught:
        read(environment)
    assert f"{caught.value.keyword} {caught.value}".startswith(said)


VARIABLES = sorted({name for environment, _ in WRONG.values() for name in environment})


@given(st.dictionaries(st.sampled_from(VARIABLES), st.text("1,obfs4-:;=.\\\\[]/ tph5@", max_size=30)))
def test_any_environment_is_used_or_refused(environment: dict[str, str]) -> None:
    for base in ({}, CLIENT, SERVER):
        try:
            read({**base, **environment})
        except Unusable:
            pass


@pytest.mark.parametrize(("offered", "taken"), [("1,2.1", "1"), ("2.1", "2.1"), ("0,2.2", "2.2")])
def test_the_version_is_one_that_was_offered(offered: str, taken: str) -> None:
    assert read(CLIENT | {"TOR_PT_MANAGED_TRANSPORT_VER": offered}).common.version == taken


def test_an_upstream_proxy_is_used_by_all_that_can(capsys: pytest.CaptureFixture[str]) -> None:
    setup = read(CLIENT | {"TOR_PT_PROXY": "http://user:secret@192.0.2.1:8080"})
    assert isinstance(setup, ClientSetup)
    assert setup.proxy is not None
    assert (setup.proxy.host, setup.proxy.port, setup.proxy.user) == ("192.0.2.1", 8080, "user")
    assert "secret" not in repr(setup)


def test_a_proxy_that_cannot_be_used_ends_it(capsys: pytest.CaptureFixture[str]) -> None:
    out = io.StringIO()
    assert run_pt(CLIENT | {"TOR_PT_PROXY": "socks4a://192.0.2.1:8080"}, out) == 2
    lines = out.getvalue().splitlines()
    assert lines[-1].startswith("PROXY-ERROR ")
    assert "192.0.2" not in out.getvalue()


def test_whoever_starts_it_by_hand_is_told_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_pt({}) == 2
    said = capsys.readouterr()
    assert said.out.startswith("ENV-ERROR ")
    assert "ClientTransportPlugin" in said.err
    assert "ServerTransportPlugin" in said.err
    assert "tcp" not in OFFERED


def test_lines_for_the_parent_are_few_and_without_addresses() -> None:
    out, now = io.StringIO(), [0.0]
    talk = Talk(out, lambda: now[0])
    for _ in range(100):
        talk.connect_failed("obfs4", 'no way to 192.0.2.1:80 "here"')
    assert out.getvalue().count("\n") == LINES
    assert "192.0.2" not in out.getvalue()
    assert 'ERRSTR="no way to [scrubbed] \\"here\\""' in out.getvalue()
    now[0] = 100.0
    talk.log("notice", "again\nand again")
    assert out.getvalue().endswith('LOG SEVERITY=notice MESSAGE="again and again"\n')


# ---- obfs4 -----------------------------------------------------------------------------------------------------------

DICE = random.Random(5).randbytes


def test_an_identity_lasts(tmp_path: Path) -> None:
    who, mode = load(tmp_path, {}, DICE)
    again, changed = load(tmp_path, {"iat-mode": "2"}, DICE)
    assert (again.certificate.text, again.seed) == (who.certificate.text, who.seed)
    assert (int(mode), int(changed)) == (0, 2)
    assert int(load(tmp_path, {}, DICE)[1]) == 2
    line = (tmp_path / "obfs4_bridgeline.txt").read_text().splitlines()[-1]
    assert line == f"Bridge obfs4 <IP ADDRESS>:<PORT> <FINGERPRINT> cert={who.certificate.text} iat-mode=2"
    assert (tmp_path / "obfs4_state.json").stat().st_mode & 0o777 == 0o600


def test_options_bring_an_identity_along(tmp_path: Path) -> None:
    load(tmp_path, {}, DICE)
    options = {"node-id": "01" * 20, "private-key": "02" * 32, "drbg-seed": "03" * 24}
    who, _ = load(tmp_path, options, DICE)
    assert who.certificate.node_id == b"\1" * 20
    assert load(tmp_path, {}, DICE)[0].certificate == who.certificate


@pytest.mark.parametrize(
    "options", [{"node-id": "01" * 20}, {"cert": "x"}, {"iat-mode": "3"}, dict.fromkeys(obfs4_state.PARTS, "01")]
)
def test_options_that_cannot_be_used(tmp_path: Path, options: dict[str, str]) -> None:
    with pytest.raises(UserError):
        load(tmp_path, options, DICE)


def test_a_state_file_that_is_damaged_is_not_replaced(tmp_path: Path) -> None:
    for text in ("{", "[]", '{"node-id": "00"}'):
        (tmp_path / "obfs4_state.json").write_text(text)
        with pytest.raises(UserError):
            load(tmp_path, {}, DICE)
        assert (tmp_path / "obfs4_state.json").read_text() == text


needs_obfs4proxy = pytest.mark.skipif(
    shutil.which("obfs4proxy") is None, reason="obfs4proxy is not installed: its files are not read"
)


@needs_obfs4proxy
def test_a_bridge_of_obfs4proxy_becomes_ours_and_goes_back(tmp_path: Path) -> None:
    with managed_pt.server("obfs4proxy", tmp_path, 1, "iat-mode=1") as method:
        theirs = method.arguments
    who, mode = load(tmp_path, {}, DICE)
    assert (who.certificate.text, int(mode)) == (theirs["cert"], 1)
    (other := tmp_path / "other").mkdir()
    ours, _ = load(other, {"iat-mode": "2"}, DICE)
    with managed_pt.server("obfs4proxy", other, 1) as method:
        assert method.arguments == {"cert": ours.certificate.text, "iat-mode": "2"}
    assert json.loads((other / "obfs4_state.json").read_text())["drbg-seed"] == ours.seed.hex()


def test_old_bridge_lines_name_the_key_instead_of_a_certificate(tmp_path: Path) -> None:
    who, _ = load(tmp_path, {}, DICE)
    old = {
        "node-id": who.certificate.node_id.hex(),
        "public-key": who.certificate.public.hex(),
        "iat-mode": "0",
    }
    found = parameters_untrusted(Obfs4Transport(), Wanted("192.0.2.1", 1, old))
    assert found == {"cert": who.certificate.text, "iat_mode": "0"}
    assert Address("obfs4", "192.0.2.1", 1, found)
