"""Personas: the files, the choice, and what a session keeps."""

from __future__ import annotations

import collections
import datetime
import itertools
import random
from pathlib import Path

import pytest
from phantomband.core.errors import UserError
from phantomband.transports.browser import persona as module
from phantomband.transports.browser.persona import choose, for_session, load_all, parse

FILE = Path(module.__file__).with_name("personas") / "chrome-linux.toml"
GOOD = FILE.read_text()


def test_every_persona_of_this_release_can_be_used() -> None:
    personas = load_all()
    assert len(personas) >= 4
    for persona in personas:
        lines = dict(persona.websocket("www.example.org", "k" * 24))
        assert lines["Host"] == "www.example.org"
        assert lines["Origin"] == "https://www.example.org"
        assert lines["Sec-WebSocket-Key"] == "k" * 24
        assert str(persona.version) in lines["User-Agent"]
        assert persona.platform in dict(persona.navigation("www.example.org"))["sec-ch-ua-platform"]


@pytest.mark.parametrize(("old", "new", "says"), [
    ('browser = "Chrome"', "", "Field required"), ("version = 156", "version = 0", "greater than 0"),
    ("share = 4", "share = -1", "greater than 0"), ("date = 2026-11-22", 'date = "soon"', "date"),
    ('["Origin", "{origin}"],', "", "lacks origin"), ("{key}", "{secret}", "is unknown"),
    ('"Pragma", "no-cache"', '"Pragma", "a\\r\\nb"', "characters"), ("[headers]", "[headers", "Expected"),
    ('tls = "chrome:stable"', 'tls = "chrome:stable"\nmood = "good"', "not permitted"),
])  # fmt: skip
def test_a_file_that_cannot_be_used_is_named(old: str, new: str, says: str) -> None:
    assert old in GOOD
    with pytest.raises(UserError, match=r"persona odd\.toml") as caught:
        parse("odd", GOOD.replace(old, new))
    assert says in str(caught.value)


def test_they_are_chosen_by_share() -> None:
    dice = random.Random(4)
    personas = load_all()
    drawn = collections.Counter(choose(personas, dice.randbytes).name for _ in range(4000))
    total = sum(p.share for p in personas)
    for persona in personas:
        assert abs(drawn[persona.name] / 4000 - persona.share / total) < 0.03


def test_the_next_session_has_another(tmp_path: Path) -> None:
    dice = random.Random(5)
    names = [for_session(tmp_path, dice.randbytes).name for _ in range(50)]
    assert all(a != b for a, b in itertools.pairwise(names))
    assert set(names) == {p.name for p in load_all()}


def test_a_file_of_the_last_session_that_is_odd_is_no_trouble(tmp_path: Path) -> None:
    (tmp_path / module.LAST_FILE).write_bytes(b"\xff\xfe")
    assert for_session(tmp_path, random.Random(6).randbytes) in load_all()


def test_an_outdated_one_warns() -> None:
    persona = parse("odd", GOOD)
    assert persona.warning(persona.date + datetime.timedelta(days=180)) is None
    warning = persona.warning(persona.date + datetime.timedelta(days=181))
    assert warning is not None
    assert "181 days" in warning
