"""Malicious directories. They know each other and every honest one, and answer PING as they must.

    drop         answers nothing else
    eclipse      names its fellows closest to the target, and made-up ids closer still; holds nothing
    poison       the same, and announces a made-up record of the newest version
    replay       the same, and announces a genuine record of an older version
    hide         names its fellows closest to the target and nobody made up: nothing it says is false; holds nothing
    impersonate  names the honest ones closest to the target, at its fellows' addresses; holds nothing
All say that they hold what they are given.
"""

from __future__ import annotations

import random
from itertools import cycle

from phantomband.core.dht import messages
from phantomband.core.dht.contact import Contact, number
from phantomband.core.dht.lookup import Held
from phantomband.core.dht.record import SignedRecord
from phantomband.core.dht.store import Outcome

from phantomband_cli.sim.dht.population import Addresses, Directory
from phantomband_cli.sim.dht.scenario import Lie
from phantomband_cli.sim.dht.stand_ins import RECORD_BYTES, Registry

FAR_VERSION = 1 << 40
FELLOWS = 12
MADE_UP = 4
"""Of the 16 contacts in an answer."""

REMEMBERED = 10_000
"""Targets whose closest fellows are remembered: lookups ask several of us."""


class Cabal:
    """What all malicious directories know."""

    def __init__(self, fellows: Directory, honest: Directory, addresses: Addresses, dice: random.Random) -> None:
        self._fellows, self._honest, self._addresses, self.dice = fellows, honest, addresses, dice
        self._closest: dict[int, list[Contact]] = {}

    def fellows(self, target: int) -> tuple[Contact, ...]:
        """Those closest to `target`."""
        return tuple(self._near(target))

    def and_made_up(self, target: int) -> tuple[Contact, ...]:
        """The same, and made-up ones that are closer."""
        known = self._near(target)
        return (*known, *(self._addresses.near(target, self.dice.choice(known)) for _ in range(MADE_UP)))

    def impostors(self, target: int) -> tuple[Contact, ...]:
        """The honest ones closest to `target`, with addresses and link keys of fellows."""
        named = zip(self._honest.closest(target, messages.MAX_CONTACTS), cycle(self._near(target)), strict=False)
        return tuple(Contact(one.node_id, fellow.link_key, fellow.ip, fellow.port) for one, fellow in named)

    def _near(self, target: int) -> list[Contact]:
        if (known := self._closest.get(target)) is None:
            if len(self._closest) >= REMEMBERED:
                self._closest.clear()
            known = self._closest[target] = self._fellows.closest(target, FELLOWS)
        return known


class Liar:
    """One malicious directory."""

    __slots__ = ("_cabal", "_lie", "_registry", "own")

    def __init__(self, own: Contact, cabal: Cabal, registry: Registry, lie: Lie) -> None:
        self.own = own
        self._cabal, self._registry, self._lie = cabal, registry, lie

    def answer(self, request: messages.Request, now: float) -> messages.Answer | None:
        match request:
            case messages.Ping():
                return messages.Pong(request.nonce, self._proof(request))
            case _ if self._lie is Lie.DROP:
                return None
            case messages.Find():
                return messages.Found(
                    request.nonce, self._proof(request), self._contacts(request), self._held(request, now)
                )
            case messages.Get():
                return messages.RecordAnswer(request.nonce, self._record(request, now))
            case messages.Store():
                return messages.StoreAnswer(request.nonce, Outcome.STORED)

    def _proof(self, request: messages.Ping | messages.Find) -> bytes:
        return self._registry.prove(self.own, request.nonce, request.sender.node_id) if request.prove else b""

    def _contacts(self, request: messages.Find) -> tuple[Contact, ...]:
        target = number(request.target)
        match self._lie:
            case Lie.IMPERSONATE:
                return self._cabal.impostors(target)
            case Lie.HIDE:
                return self._cabal.fellows(target)
        return self._cabal.and_made_up(target)

    def _held(self, request: messages.Find, now: float) -> Held | None:
        if self._lie is Lie.POISON:
            return Held(FAR_VERSION, self._cabal.dice.getrandbits(256).to_bytes(32, "big"), RECORD_BYTES)
        old = self._old(request.target, now)
        return Held(old.version, old.digest, RECORD_BYTES) if old is not None else None

    def _record(self, request: messages.Get, now: float) -> bytes:
        if self._lie is Lie.POISON:
            made_up = self._registry.make_up(request.key, FAR_VERSION, now)
            return made_up.encoded
        old = self._old(request.key, now)
        return old.encoded if old is not None else b""

    def _old(self, key: bytes, now: float) -> SignedRecord | None:
        return self._registry.old(key, now) if self._lie is Lie.REPLAY else None
