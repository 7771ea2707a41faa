"""Every decoder of directory documents and of the table, walked with bytes that were changed at every kind of place:
whatever comes is a value or `Malformed`, and keys that nobody can have never become a value."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from phantomband.core.crypto.dh import PRIME
from phantomband.core.dht import messages
from phantomband.core.dht.contact import Contact, read_contact_untrusted
from phantomband.core.dht.descriptor_record import split_record_untrusted
from phantomband.core.dht.lookup import Held
from phantomband.core.dht.reconcile import ItemSet, Reconciliation, answer_untrusted
from phantomband.core.dht.record import decode_record_untrusted, sign_record
from phantomband.core.dht.store import Outcome
from phantomband.core.errors import Malformed, UserError
from phantomband.core.ids import NodeId
from phantomband.core.netdir import ballot, replies, requests
from phantomband.core.netdir.address import read_addresses_untrusted
from phantomband.core.netdir.certified import CertifiedView
from phantomband.core.netdir.changes import SetChange
from phantomband.core.netdir.descriptor import decode_unverified, sign_descriptor
from phantomband.core.netdir.genesis import DirectoryInfo
from phantomband.core.netdir.genesis_file import directory_text, genesis_text, parse_directory, parse_genesis
from phantomband.core.netdir.view import View, ViewEntry
from phantomband.core.netdir.view_diff import apply_untrusted, make_diff
from phantomband.core.wire import Reader

BAD_KEYS = {
    "zeros": bytes(32),
    "one": bytes((1, *bytes(31))),
    "order 8": bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    "minus one": (PRIME - 1).to_bytes(32, "little"),
    "not reduced": (PRIME + 5).to_bytes(32, "little"),
    "top bit": bytes((9, *bytes(30), 0x80)),
}

Decoder = Callable[[bytes], object]


def whole(read: Callable[[Reader], object]) -> Decoder:
    def decode(data: bytes) -> object:
        reader = Reader(data)
        value = read(reader)
        reader.end()
        return value

    return decode


class Walk:
    """A good document for each decoder."""

    def __init__(self, world: object) -> None:
        self.world = world
        self.genesis = world.genesis(4)  # type: ignore[attr-defined]

    def documents(self) -> dict[str, tuple[Decoder, bytes]]:
        world, genesis = self.world, self.genesis
        key = world.key(1)  # type: ignore[attr-defined]
        signed = sign_descriptor(world.descriptor(genesis, 1), key)  # type: ignore[attr-defined]
        entries = [world.entry(i) for i in range(4)]  # type: ignore[attr-defined]
        view, newer = world.view(genesis, entries), world.view(genesis, entries[1:], epoch=2)  # type: ignore[attr-defined]
        certified = world.certify(view, [0, 1, 2])  # type: ignore[attr-defined]
        after = world.certify(newer, [0, 1, 2])  # type: ignore[attr-defined]
        diff = make_diff(certified.view_bytes, after)
        assert diff is not None
        vote = ballot.Vote(
            genesis.network_id, 1, 0, 0, bytes(32), 7, (ballot.VoteEntry(NodeId(bytes(32)), bytes(32), 5, 3, 9),)
        )
        echo = ballot.Echo(genesis.network_id, 1, 0, ((0, bytes(32)),))
        share = ballot.ViewSignature(genesis.network_id, 1, 1, bytes(32), bytes(32), genesis.set_id, bytes(3373))
        change = SetChange(genesis.network_id, 1, genesis.set_id, 9, (), genesis.directories[:1]).signed_by(0, key)
        place = Contact(key.node_id, b"k" * 32, b"\x0a\0\0\1", 9001)
        record = sign_record(key, genesis.network_id, 1, 2, 100, 200, b"value")
        items = ItemSet([bytes([i]) * 56 for i in range(40)])
        ask = Reconciliation(ItemSet([bytes([i]) * 56 for i in range(2, 60)])).next_request()
        assert ask is not None
        found: dict[str, tuple[Decoder, bytes]] = {
            "descriptor": (decode_unverified, signed.encoded),
            "entry": (ViewEntry.decode_untrusted, entries[0].encode()),
            "view": (View.decode_untrusted, view.encode()),
            "certified": (CertifiedView.decode_untrusted, certified.encode()),
            "difference": (
                lambda data: CertifiedView.decode_untrusted(apply_untrusted(certified.view_bytes, data)),
                diff,
            ),
            "vote": (ballot.Vote.decode_untrusted, ballot.sign_vote(vote, key)),
            "echo": (ballot.Echo.decode_untrusted, ballot.sign_echo(echo, key)),
            "share": (ballot.ViewSignature.decode_untrusted, share.encode()),
            "vote, verified": (
                lambda data: ballot.verify_vote_untrusted(data, genesis),
                ballot.sign_vote(vote, world.key(0)),  # type: ignore[attr-defined]
            ),
            "change": (SetChange.decode_untrusted, change.encode()),
            "addresses": (whole(read_addresses_untrusted), b"\1" + world.address(1).encode()),  # type: ignore[attr-defined]
            "contact": (whole(read_contact_untrusted), place.encode()),
            "record": (lambda data: decode_record_untrusted(data, genesis.network_id), record.encoded),
            "descriptor record": (split_record_untrusted, b"\0" + signed.encoded),
            "ranges": (lambda data: answer_untrusted(data, items), ask),
            "ranges' answer": (self._answered(ask), answer_untrusted(ask, items)),
        }
        for request in (
            messages.Ping(b"n" * 16, place, True), messages.Find(b"n" * 16, place, False, bytes(32)),
            messages.Get(b"n" * 16, place, bytes(32), 900), messages.Store(b"n" * 16, place, record.encoded),
        ):  # fmt: skip
            found[f"table {type(request).__name__}"] = (messages.decode_request_untrusted, messages.encode(request))
        for answer in (
            messages.Pong(b"n" * 16, b""), messages.Found(b"n" * 16, b"", (place,), Held(1, bytes(32), 100)),
            messages.RecordAnswer(b"n" * 16, b"r"), messages.StoreAnswer(b"n" * 16, Outcome.FULL),
        ):  # fmt: skip
            found[f"table {type(answer).__name__}"] = (messages.decode_answer_untrusted, messages.encode(answer))
        for asked in (
            requests.GetView(3), requests.Publish(signed.encoded, b"s"), requests.GetVotes(1, (bytes(32),)),
            requests.GetRecords((NodeId(bytes(32)),)), requests.GetViewDiff(1, bytes(32)), requests.GetChanges(1),
            requests.GetDescriptors((bytes(32),)), requests.VoteHeld(1, 2, bytes(32)), requests.GetOwn(),
        ):  # fmt: skip
            found[f"request {type(asked).__name__}"] = (
                requests.decode_request_untrusted,
                requests.encode_request(asked),
            )
        for reply in (
            replies.ViewReply(certified.encode()), replies.NotNewer(2), replies.Descriptors((signed.encoded,)),
            replies.Records(((b"", signed.encoded),)), replies.Votes((b"v",)), replies.Changes((b"c",)),
            replies.RefusedReply(replies.Code.FULL, "no"),
        ):  # fmt: skip
            found[f"reply {type(reply).__name__}"] = (replies.decode_reply_untrusted, replies.encode_reply(reply))
        return found

    @staticmethod
    def _answered(ask: bytes) -> Decoder:
        def decode(data: bytes) -> object:
            run = Reconciliation(ItemSet([bytes([i]) * 56 for i in range(2, 60)]))
            assert run.next_request() == ask
            run.reply_untrusted(data)
            return run

        return decode


def mutations(good: bytes, dice: random.Random, count: int) -> list[bytes]:
    """Cut, longer, bits turned, and runs of the values that numbers and lengths break at."""
    out = [b"", good[:1], good[:-1], good + b"\0", bytes(len(good)), b"\xff" * len(good)]
    for _ in range(count):
        raw, at = bytearray(good), dice.randrange(min(len(good), dice.choice((64, 2300, len(good)))))
        match dice.randrange(4):
            case 0:
                raw[at] ^= 1 << dice.randrange(8)
            case 1:
                raw[at : at + 8] = dice.choice((b"\xff", b"\0", b"\x7f")) * 8
            case 2:
                del raw[at : at + dice.randrange(1, 40)]
            case 3:
                raw[at:at] = dice.randbytes(dice.randrange(1, 40))
        out.append(bytes(raw))
    return out


def test_every_decoder_gives_a_value_or_says_that_it_is_malformed(world: object) -> None:
    for name, (decode, good) in Walk(world).documents().items():
        decode(good)
        for raw in mutations(good, random.Random(name), 150):
            try:
                decode(raw)
            except Malformed:
                pass


@pytest.mark.parametrize("bad", BAD_KEYS.values(), ids=BAD_KEYS)
def test_a_key_that_nobody_can_have_is_in_no_document(world: object, bad: bytes) -> None:
    """Where a relay's or a directory's key is parsed, in whatever document: or whoever picks it, dials it, or draws it
    for a circuit meets it in a place that expects none."""
    genesis = world.genesis(4)  # type: ignore[attr-defined]
    descriptor = world.descriptor(genesis, 1)  # type: ignore[attr-defined]
    entry = world.entry(0)  # type: ignore[attr-defined]
    info = genesis.directories[0]
    place = Contact(entry.node_id, b"k" * 32, b"\x0a\0\0\1", 9001)
    carriers = [
        (descriptor, ("link_key", "onion_key", "next_onion_key")),
        (entry, ("link_key", "onion_key", "previous_onion_key")),
        (info, ("link_key",)),
        (place, ("link_key",)),
    ]
    for carrier, names in carriers:
        for name in names:
            if name == "next_onion_key" and bad == bytes(32):
                continue  # zeros: none is planned
            with pytest.raises(Malformed):
                replace(carrier, **{name: bad})
    raw = sign_descriptor(descriptor, world.key(1)).encoded  # type: ignore[attr-defined]
    change = SetChange(genesis.network_id, 1, genesis.set_id, 9, (), (info,)).encode()
    for decode, good, key in (
        (decode_unverified, raw, descriptor.link_key), (decode_unverified, raw, descriptor.onion_key),
        (ViewEntry.decode_untrusted, entry.encode(), entry.onion_key),
        (SetChange.decode_untrusted, change, info.link_key),
        (whole(read_contact_untrusted), place.encode(), place.link_key),
    ):  # fmt: skip
        assert decode(good)
        with pytest.raises(Malformed):
            decode(good.replace(key, bad))


@pytest.mark.parametrize("bad", BAD_KEYS.values(), ids=BAD_KEYS)
def test_a_key_that_nobody_can_have_is_in_no_file(world: object, bad: bytes) -> None:
    genesis = world.genesis(2)  # type: ignore[attr-defined]
    key = base64.b64encode(genesis.directories[0].link_key)
    for text, parse in (
        (genesis_text(genesis), parse_genesis),
        (directory_text(genesis.directories[0]), parse_directory),
    ):
        with pytest.raises(UserError, match="link_key"):
            parse(text.encode().replace(key, base64.b64encode(bad)), "a file")


def test_an_identity_that_nobody_can_have_is_no_directory(world: object) -> None:
    info = world.genesis(1).directories[0]  # type: ignore[attr-defined]
    with pytest.raises(Malformed, match="small order"):
        DirectoryInfo(info.nickname, bytes((1, *bytes(31))) + info.identity[32:], info.link_key, info.addresses)


@pytest.mark.parametrize(
    "value", ["1e400", "NaN", "Infinity", "-1", "1" + "0" * 5000, "1.5", "true", "null", "[]", '"1"']
)
@pytest.mark.parametrize("field", ["start", "startup_epochs", "epoch_seconds", "min_relays", "probation_epochs"])
def test_a_number_that_is_none_is_a_mistake_in_the_file(world: object, field: str, value: str) -> None:
    data = json.loads(genesis_text(world.genesis(1)))  # type: ignore[attr-defined]
    group = next((group for group in (data["epochs"], data["terms"], data) if field in group), data)
    group[field] = "HERE"
    with pytest.raises(UserError):
        parse_genesis(json.dumps(data).replace('"HERE"', value).encode(), "a file")
