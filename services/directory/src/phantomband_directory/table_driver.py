"""Drives this directory's place in the table (core/dht/node.py): carries its messages, gives it the time.

Contacts have an address but no transport. A node's contact is its first address of the transport by which gateways
reach it: tcp, else tls, else quic. Whoever holds the node's descriptor dials it as that says; whoever does not tries
tcp. So a node that listens on tls or quic only enters the tables of those whom gossip has told of it.

What a contact claims is checked here: a request's sender has the link key that the link proved and the IP address of
the link's other end; an answer counts when it came by a link whose other end has the contact's IP address. Gateways use
a link again whoever dialled it, so a contact's port is not proved by that, its network is.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Iterable, Sequence

from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.crypto.sign import Signer
from phantomband.core.dht.contact import Contact as Place
from phantomband.core.dht.contact import read_contact_untrusted
from phantomband.core.dht.descriptor_record import record_of
from phantomband.core.dht.messages import Answer, Find, Get, Ping, decode_answer_untrusted, decode_request_untrusted
from phantomband.core.dht.messages import Request as TableRequest
from phantomband.core.dht.messages import Store as StoreRequest
from phantomband.core.dht.messages import encode as encode_message
from phantomband.core.dht.node import DirectoryNode, Effect
from phantomband.core.dht.operation import Send
from phantomband.core.dht.parameters import Parameters
from phantomband.core.dht.proof import IdentityProver
from phantomband.core.dht.record import SignedRecord, Verify, record_key
from phantomband.core.errors import Malformed, Refused
from phantomband.core.ids import NodeId
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.pool_records import Record
from phantomband.core.netdir.public_address import is_public
from phantomband.core.netdir.replies import TableReply, decode_reply_untrusted
from phantomband.core.netdir.requests import Table, encode_request
from phantomband.core.wire import Reader
from phantomband.runtime.contained import Contained

from phantomband_directory.parts import Contact, PeerNetwork

TIMEOUT_SECONDS = 5.0
"""Of one request: a link may have to be dialled first."""

MAX_IN_FLIGHT = 128
"""Requests without an answer."""

MAX_RECORDS = 2048
"""Records held: 12 MB of usual size, 28 MB at most."""

JUMP_SECONDS = 60.0
"""Wall and monotonic time that part by more between two looks: the table begins anew, with the contacts it had."""

MAX_SLEEP_SECONDS = 5.0
ANY = 1 << 30
"""No limit: the nodes of a test network share an address."""

PUBLIC = Parameters(timeout=TIMEOUT_SECONDS, pending=MAX_IN_FLIGHT, records=MAX_RECORDS)
TEST_NETWORK = Parameters(
    timeout=TIMEOUT_SECONDS,
    pending=MAX_IN_FLIGHT,
    records=MAX_RECORDS,
    near_limit=ANY,
    far_limit=ANY,
    far_table_limit=ANY,
    records_of_prefix=MAX_RECORDS,
    rate=1000.0,
    burst=4000.0,
)

TRANSPORTS = ("tcp", "tls", "quic")
"""As gateways prefer them (services/gateway)."""


def address_of(addresses: Sequence[NodeAddress]) -> NodeAddress | None:
    """The address by which other directories reach a node; None if there is none."""
    for name in TRANSPORTS:
        for address in addresses:
            if address.transport == name:
                return address
    return None


class TableDriver:
    """One directory's place in the table, once its own address is known.

    Args:
        verify: checks records that come (descriptor_record.py).
        addresses: of a node by its descriptor, empty if none is held.
        start: whom to begin with: contacts of an earlier run come by `remembered`.
        remembered: encoded contacts.
        lacking: nodes whose records are wanted.
        public: only public addresses are asked.
    """

    def __init__(
        self,
        key: Signer,
        network: PeerNetwork,
        verify: Verify,
        addresses: Callable[[NodeId, bytes], tuple[NodeAddress, ...]],
        start: Callable[[], Iterable[Contact]],
        remembered: Iterable[bytes],
        lacking: Callable[[], list[NodeId]],
        now: Callable[[], float],
        random: RandomSource,
        contained: Contained,
        *,
        test_network: bool,
        public: bool,
    ) -> None:
        self._prover, self._network, self._verify = IdentityProver(key), network, verify
        self._addresses, self._start, self._lacking = addresses, start, lacking
        self._now, self._random = now, random
        self._test_network, self._public = test_network, public
        self._remembered = [place for place in map(_read_place, remembered) if place is not None]
        self._node: DirectoryNode | None = None
        self._own: Record | None = None
        self._published: tuple[bytes, float, int] = (b"", 0.0, 0)
        self._joined = 0.0
        self._publish_from = 0.0
        self._begun = False
        self._contained = contained
        self._changed = asyncio.Event()

    # --- what others ask of it

    @property
    def contacts(self) -> list[Place]:
        """Of the table, or of the earlier run while there is none."""
        return list(self._remembered) if self._node is None else self._node.table.contacts()

    @property
    def records(self) -> int:
        """Held for the table."""
        return 0 if self._node is None else len(self._node.store)

    def saved(self) -> tuple[bytes, ...]:
        """Contacts for the next run, at most those of a table."""
        return tuple(sorted(place.encode() for place in self.contacts))

    def contact(self, place: Place) -> Contact:
        """How to dial a contact of the table."""
        ip = str(ipaddress.ip_address(place.ip))
        known = self._addresses(place.node_id, place.link_key)
        same = tuple(one for one in known if (one.host, one.port) == (ip, place.port))
        return Contact(place.node_id, place.link_key, same or (NodeAddress("tcp", ip, place.port),))

    def own_changed(self, own: Record) -> None:
        """This node has a new descriptor: perhaps another place, in any case another record."""
        self._own = own
        descriptor = own.signed.descriptor
        address = address_of(descriptor.addresses)
        if address is None:
            return
        place = Place(own.signed.node_id, descriptor.link_key, address.ip.packed, address.port)
        if self._node is None or self._node.own != place:
            self._make(place)
        self._changed.set()

    def _make(self, own: Place) -> None:
        self._remembered = self.contacts
        parameters = TEST_NETWORK if self._test_network else PUBLIC
        self._node = DirectoryNode(own, self._prover, self._verify, self._random, parameters, self._now())
        self._joined = self._publish_from = 0.0
        self._published = (b"", 0.0, 0)

    def answer_untrusted(self, message: bytes, peer: bytes, ip: bytes) -> bytes | None:
        """Serves a request of the table.

        Args:
            peer: link key that the link proved, 32 bytes or empty.
            ip: packed address of the link's other end, 4 or 16 bytes or empty.

        Returns: the answer, never longer than the request; None if it asks too much, or there is no table yet.

        Raises:
            Malformed: it is none, or its sender claims another link key or address than its link has.
        """
        request = decode_request_untrusted(message)
        if not peer or request.sender.link_key != peer or request.sender.ip != ip:
            raise Malformed("the sender's contact is not that of its link")
        if self._node is None:
            return None
        answer = None
        for effect in self._node.request(request, ip, self._now()):
            if answer is None and isinstance(effect, Send) and not isinstance(effect.message, TableRequest):
                answer = encode_message(effect.message)
            else:
                self._carry_out([effect])
        self._changed.set()
        return answer

    # --- driven

    def begin(self) -> None:
        """From now on it asks others; before that it only answers, and checks who asked."""
        self._begun = True
        self._changed.set()

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        ahead = self._now() - loop.time()
        while True:
            self._changed.clear()
            if abs(self._now() - loop.time() - ahead) > JUMP_SECONDS:
                # What was begun by a clock that is ahead would wait until that time has come.
                ahead = self._now() - loop.time()
                if self._node is not None:
                    self._make(self._node.own)
            node, now = self._node, self._now()
            if node is not None:
                self._step(node, now)
            wait = MAX_SLEEP_SECONDS if node is None else max(0.01, node.deadline - now)
            try:
                async with asyncio.timeout(min(wait, MAX_SLEEP_SECONDS)):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _step(self, node: DirectoryNode, now: float) -> None:
        self._join(node, now)
        self._carry_out(node.tick(now))
        self._publish(node, now)

    def _join(self, node: DirectoryNode, now: float) -> None:
        """Begins, and begins again while nobody answers."""
        if not self._begun or len(node.table) or now < self._joined:
            return
        self._joined, self._publish_from = now + 4 * TIMEOUT_SECONDS, now + TIMEOUT_SECONDS
        places = {place.node_id: place for place in map(_place_of, self._start()) if place is not None}
        places.update((place.node_id, place) for place in self._remembered)
        places.pop(node.own.node_id, None)
        if places:
            self._carry_out(node.join(places.values(), now))

    def _publish(self, node: DirectoryNode, now: float) -> None:
        """Our record, when it has changed, when a table that knew too few to hold it knows more, and again each
        `republish` seconds."""
        own, (digest, at, known) = self._own, self._published
        if own is None or not self._begun or not len(node.table) or now < self._publish_from:
            return
        grown = known < min(len(node.table), node.parameters.siblings) and now >= at + 4 * TIMEOUT_SECONDS
        if own.signed.digest != digest or grown or now >= at + node.parameters.republish:
            self._published = (own.signed.digest, now, len(node.table))
            self._carry_out(node.publish(record_of(own), now)[1])

    def search(self) -> None:
        """Looks for the records of a few nodes that gossip did not bring."""
        if self._node is not None and len(self._node.table):
            for node_id in self._lacking():
                self._carry_out(self._node.search(record_key(0, node_id), self._now())[1])

    def _carry_out(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(place, message) if isinstance(message, Ping | Find | Get | StoreRequest):
                    self._contained.spawn(self._ask(place, message))
                case _:
                    pass  # the record of a search was taken when it was verified

    async def _ask(self, place: Place, message: TableRequest) -> None:
        node = self._node
        if node is None:
            return
        answer = await self._answer_of(place, message)
        now = self._now()
        if answer is None:
            self._carry_out(node.lost(message.nonce, place, now))
        else:
            self._carry_out(node.answer(answer, place, now))
        self._changed.set()

    async def _answer_of(self, place: Place, message: TableRequest) -> Answer | None:
        """None: nobody there, somebody elsewhere, or nonsense."""
        if self._public and not is_public(ipaddress.ip_address(place.ip)):
            return None  # a liar must not have us knock at doors of our own network
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                raw, ip = await self._network.ask(self.contact(place), encode_request(Table(encode_message(message))))
            reply = decode_reply_untrusted(raw)
            if ip != place.ip or not isinstance(reply, TableReply):
                return None
            return decode_answer_untrusted(reply.message)
        except (Refused, Malformed, TimeoutError):
            return None


def _place_of(contact: Contact) -> Place | None:
    address = address_of(contact.addresses)
    return None if address is None else Place(contact.node_id, contact.link_key, address.ip.packed, address.port)


def _read_place(encoded: bytes) -> Place | None:
    reader = Reader(encoded)
    try:
        place = read_contact_untrusted(reader)
        reader.end()
    except Malformed:
        return None
    return place


__all__ = ["SignedRecord", "TableDriver", "address_of"]
