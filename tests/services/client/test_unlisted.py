"""What a client takes as the keys of a bridge that no view lists."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from phantomband.core.errors import Refused
from phantomband.core.netdir.certified import CLOCK_SKEW_SECONDS
from phantomband.core.netdir.descriptor import sign_descriptor
from phantomband.core.netdir.replies import Code, Records, RefusedReply, Reply, encode_reply
from phantomband.core.netdir.requests import GetOwn, decode_request_untrusted
from phantomband_client.unlisted import Unlisted
from virtual import run_virtual

MAKE: Any = runpy.run_path(str(Path(__file__).parents[2] / "core" / "netdir" / "conftest.py"))["World"]()
GENESIS = MAKE.genesis(4)
KEY, OTHER = MAKE.key(7), MAKE.key(8)
SIGNED = sign_descriptor(MAKE.descriptor(GENESIS, 7), KEY)
NOW = float(SIGNED.descriptor.published + 1)
VIEW = MAKE.view(GENESIS, [MAKE.entry(i, flags=7) for i in range(3)])


class Link:
    def __init__(self, reply: Reply) -> None:
        self.node_id, self.link_key = KEY.node_id, SIGNED.descriptor.link_key
        self.reply, self.asked = reply, 0

    async def directory_call(self, request: bytes) -> bytes:
        assert decode_request_untrusted(request) == GetOwn()
        self.asked += 1
        return encode_reply(self.reply)


def asked(reply: Reply, now: float = NOW, link: Link | None = None) -> Unlisted:
    unlisted = Unlisted(SIGNED.descriptor.network_id, frozenset((KEY.node_id,)), lambda: now)
    run_virtual(unlisted.ask(link or Link(reply), VIEW))  # type: ignore[arg-type]
    return unlisted


def record(signed: Any) -> Records:
    return Records(((b"", signed.encoded),))


def test_its_own_descriptor_makes_an_entry_beside_the_view() -> None:
    unlisted = asked(record(SIGNED))
    entry = unlisted.find(VIEW, KEY.node_id)
    assert entry is not None
    assert (entry.onion_key, entry.link_key) == (SIGNED.descriptor.onion_key, SIGNED.descriptor.link_key)
    assert not unlisted.lacking(VIEW)
    assert unlisted.view_with(VIEW, KEY.node_id).find(KEY.node_id) == entry
    assert unlisted.view_with(VIEW, VIEW.entries[0].node_id) is VIEW


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (record(sign_descriptor(MAKE.descriptor(GENESIS, 8), OTHER)), "another node"),
        (Records((*record(SIGNED).items, *record(SIGNED).items)), "does not say its keys"),
        (RefusedReply(Code.MALFORMED, "unknown request"), "does not say its keys"),
        (Records(((b"", SIGNED.encoded[:-1] + bytes((SIGNED.encoded[-1] ^ 1,))),)), "cannot be used"),
    ],
)
def test_anything_else_is_refused(reply: Reply, said: str) -> None:
    with pytest.raises(Refused, match=said):
        asked(reply)


@pytest.mark.parametrize("now", [SIGNED.descriptor.published - CLOCK_SKEW_SECONDS - 1.0,
                                 SIGNED.descriptor.expires + CLOCK_SKEW_SECONDS + 0.0])  # fmt: skip
def test_an_old_or_future_one_is_refused(now: float) -> None:
    with pytest.raises(Refused, match="not in force"):
        asked(record(SIGNED), now)


def test_another_link_key_than_the_lines_is_refused() -> None:
    link = Link(record(SIGNED))
    link.link_key = bytes(32)
    with pytest.raises(Refused, match="another node"):
        asked(record(SIGNED), link=link)


def test_who_is_no_bridge_or_stands_in_the_view_is_not_asked() -> None:
    link = Link(record(SIGNED))
    link.node_id = OTHER.node_id
    asked(record(SIGNED), link=link)
    assert link.asked == 0
    listed = MAKE.view(GENESIS, [replace(MAKE.entry(0, flags=7), node_id=KEY.node_id)])
    link = Link(record(SIGNED))
    unlisted = Unlisted(SIGNED.descriptor.network_id, frozenset((KEY.node_id,)), lambda: NOW)
    run_virtual(unlisted.ask(link, listed))  # type: ignore[arg-type]
    assert link.asked == 0
