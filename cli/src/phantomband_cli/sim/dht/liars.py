"""Malicious directories. They know each other and every honest one, and answer PING as they must.

    drop      answers nothing else
    eclipse   names its fellows closest to the target, and made-up ids closer still; holds nothing
    poison    the same, and announces a made-up record of the newest version
    replay    the same, and announces the first version that it was given
All say that they hold what they are given.
"""

from __future__ import annotations

import random
from enum import Enum

from phantomband.core.dht.contact import Contact, number
from phantomband.core.dht.lookup import Held
from phantomband.core.dht.messages import (
    Answer,
    Find,
    Found,
    Get,
    Ping,
    Pong,
    RecordAnswer,
    Request,
    Store,
    StoreAnswer,
)
from phantomband.core.dht.record import SignedRecord
from phantomband.core.dht.store import Outcome
from phantomband.core.errors import Malformed

from phantomband_cli.sim.dht.population import Addresses, Directory
from phantomband_cli.sim.dht.stand_ins import RECORD_BYTES, Registry

FAR_VERSION = 1 << 40
FELLOWS = 12
MADE_UP = 4
"""Of the 16 contacts in an answer."""


class Lie(Enum):
    DROP = "drop"
    ECLIPSE = "eclipse"
    POISON = "poison"
    REPLAY = "replay"


class Liar:
    """One malicious directory."""

    __slots__ = ("_addresses", "_dice", "_fellows", "_lie", "_old", "_registry", "own")

    def __init__(
        self, own: Contact, fellows: Directory, addresses: Addresses, registry: Registry, dice: random.Random
    ) -> None:
        self.own = own
        self._fellows, self._addresses, self._registry, self._dice = fellows, addresses, registry, dice
        self._lie = dice.choice(list(Lie))
        self._old: dict[bytes, SignedRecord] = {}

    def answer(self, request: Request, now: float) -> Answer | None:
        match request:
            case Ping():
                return Pong(request.nonce, self._proof(request))
            case _ if self._lie is Lie.DROP:
                return None
            case Find():
                return Found(request.nonce, self._proof(request), self._contacts(request), self._held(request))
            case Get():
                return RecordAnswer(request.nonce, self._record(request, now))
            case Store():
                self._keep(request)
                return StoreAnswer(request.nonce, Outcome.STORED)

    def _proof(self, request: Ping | Find) -> bytes:
        return self._registry.prove(self.own, request.nonce, request.sender.node_id) if request.prove else b""

    def _contacts(self, request: Find) -> tuple[Contact, ...]:
        target = number(request.target)
        fellows = self._fellows.closest(target, FELLOWS)
        return (*fellows, *(self._addresses.near(target, self._dice.choice(fellows)) for _ in range(MADE_UP)))

    def _held(self, request: Find) -> Held | None:
        if self._lie is Lie.POISON:
            return Held(FAR_VERSION, self._dice.getrandbits(256).to_bytes(32, "big"), RECORD_BYTES)
        old = self._old.get(request.target)
        return Held(old.version, old.digest, RECORD_BYTES) if old is not None else None

    def _record(self, request: Get, now: float) -> bytes:
        if self._lie is Lie.POISON:
            made_up = self._registry.make_up(request.key, FAR_VERSION, now)
            return made_up.encoded
        old = self._old.get(request.key)
        return old.encoded if old is not None else b""

    def _keep(self, request: Store) -> None:
        if self._lie is Lie.REPLAY:
            try:
                record = self._registry.verify(request.record)
            except Malformed:
                return
            self._old.setdefault(record.key, record)
