"""The ladder that a descriptor climbs before it is taken, the cheapest rung first. PROTOCOL.md section 7, point 6.

    SIZE        size, version, network                         some microseconds
    RATE        of the sender's /24 and /16 (/48 and /32)
    WORK        stamp: epoch, difficulty, then Equihash        20 to 40, and 10 more if it is right
    FORM        the parser                                     tens
    TIME        neither from the future nor expired
    CAPS        a newcomer's address and networks
    SIGNATURE   Ed25519, then ML-DSA-65                        hundreds

`make bench-work` measures them. Reachability (a link handshake to the claimed address) is what a directory does after
that, since it costs a round trip. A stamp is bound to an identity, not to a descriptor: it need not be made again for
each descriptor, and whoever copies it gets as far as Ed25519 with somebody else's identity, and no further.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from phantomband.core.crypto.kdf import sha3_256
from phantomband.core.errors import Malformed, Refused
from phantomband.core.ids import NodeId
from phantomband.core.netdir.address import IPAddress
from phantomband.core.netdir.caps import NO_CAPS, CapCounter, CapRule, Member
from phantomband.core.netdir.certified import CLOCK_SKEW_SECONDS
from phantomband.core.netdir.codec import DIGEST_BYTES, IDENTITY_BYTES, KEY_BYTES, SIGNATURE_BYTES
from phantomband.core.netdir.descriptor import (
    MAX_DESCRIPTOR_BYTES,
    VERSION,
    Descriptor,
    SignedDescriptor,
    decode_untrusted,
    decode_unverified,
)
from phantomband.core.netdir.epoch import NO_EPOCH
from phantomband.core.netdir.genesis import Genesis
from phantomband.core.netdir.public_address import networks
from phantomband.core.netdir.view import NO_DIGEST
from phantomband.core.work import stamp as stamps
from phantomband.core.work.equihash import Parameters
from phantomband.core.work.stamp import Challenge

MIN_DESCRIPTOR_BYTES = 1 + DIGEST_BYTES + IDENTITY_BYTES + 3 * KEY_BYTES + SIGNATURE_BYTES
"""Fields of fixed size alone (descriptor.py)."""

_IDENTITY = slice(1 + DIGEST_BYTES, 1 + DIGEST_BYTES + IDENTITY_BYTES)


class Rung(Enum):
    """Where a descriptor fell, for counters; in the order of the ladder."""

    SIZE = "size"
    RATE = "rate"
    WORK = "work"
    FORM = "form"
    TIME = "time"
    CAPS = "caps"
    SIGNATURE = "signature"
    TAKEN = "taken"


@dataclass(frozen=True, slots=True)
class RateRule:
    """Descriptors a second, and at once, from one /24 (IPv6 /48), one /16 (/32), and from all together. The last one
    bounds what junk can cost: 1,000 stamps a second of 40 us are 4% of a processor."""

    near: tuple[float, float] = (0.2, 20.0)
    far: tuple[float, float] = (2.0, 200.0)
    total: tuple[float, float] = (1000.0, 4000.0)
    max_networks: int = 4096
    """Buckets kept of each kind; beyond it the one least recently used is forgotten, and then full again."""


NO_RATES = RateRule((1e9, 1e9), (1e9, 1e9), (1e9, 1e9))
"""Test networks live on one address."""


class Vouched(Enum):
    """A sender whose rate is bounded elsewhere: a node of the view or of the set, or one that we asked."""

    PEER = "peer"


VOUCHED = Vouched.PEER

Source = IPAddress | Vouched | None
"""Whose link a descriptor came over; None: one without an address, as of DoH or a pluggable transport."""

_NO_ADDRESS = (b"none", b"none")
"""All links without an address are one network."""


def network_of(source: Source) -> bytes:
    """The /16 (IPv6 /32) that a sender counts for; empty for a vouched one."""
    if isinstance(source, Vouched):
        return b""
    return _NO_ADDRESS[1] if source is None else networks(source)[-1]


class PrefixRates:
    """Token buckets by network. A refusal takes nothing from the wider ones, so a flood from one /24 uses up neither
    its /16 nor the total."""

    def __init__(self, rule: RateRule) -> None:
        self._rule = rule
        self._buckets: tuple[dict[bytes, tuple[float, float]], ...] = ({}, {}, {})

    def allow(self, source: IPAddress | None, now: float) -> bool:
        """Takes one token of each bucket, or none at all."""
        near, far = _NO_ADDRESS if source is None else networks(source)[1:]
        found = []
        rates = (self._rule.near, self._rule.far, self._rule.total)
        for buckets, key, (rate, burst) in zip(self._buckets, (near, far, b""), rates):
            tokens, at = buckets.get(key, (burst, now))
            tokens = min(burst, tokens + max(0.0, now - at) * rate)
            if tokens < 1:
                return False
            found.append((buckets, key, tokens - 1))
        for buckets, key, tokens in found:
            buckets.pop(key, None)
            buckets[key] = (tokens, now)
            if len(buckets) > self._rule.max_networks:
                del buckets[next(iter(buckets))]
        return True

    def __len__(self) -> int:
        """Buckets kept."""
        return sum(map(len, self._buckets))


@dataclass(frozen=True, slots=True)
class Anchor:
    """A certified view that stamps may be made for: its digest, and the bits that were asked for then."""

    view_digest: bytes
    bits: int


@dataclass(frozen=True, slots=True)
class AdmissionRule:
    """What one network asks for.

    Args:
        parameters: of Equihash; None: no work (test networks).
        anchors: newest views whose stamps count. A node pays once in so many epochs for as long as it stays.
    """

    parameters: Parameters | None = None
    anchors: int = 24
    rates: RateRule = field(default_factory=RateRule)
    caps: CapRule = field(default_factory=CapRule)


def rule_of(genesis: Genesis) -> AdmissionRule:
    """What a network asks for: rates and caps unless it is a test network, and the work of its terms."""
    work = genesis.terms.work
    return AdmissionRule(work, rates=NO_RATES, caps=NO_CAPS) if genesis.test_network else AdmissionRule(work)


class Admission:
    """Asks of descriptors what `rule` asks for. Its memory is bounded by the rule and by the view."""

    def __init__(self, network_id: bytes, rule: AdmissionRule, first_bits: int = 0) -> None:
        """Args: first_bits: difficulty of stamps that are made before there is any view."""
        self._head = bytes((VERSION,)) + network_id
        self._network_id, self._rule = network_id, rule
        self._rates = PrefixRates(rule.rates)
        self._anchors: dict[int, Anchor] = {NO_EPOCH: Anchor(NO_DIGEST, first_bits)}
        self._members: frozenset[NodeId] = frozenset()
        self._counter = CapCounter(rule.caps)
        self.counts: Counter[Rung] = Counter()
        """How far descriptors came."""

    @property
    def asks_work(self) -> bool:
        """Whether a descriptor needs a stamp."""
        return self._rule.parameters is not None

    def new_view(self, epoch: int, view_digest: bytes, bits: int, members: Iterable[Member]) -> None:
        """A newer view was certified: stamps may be made for it, and its nodes use up the caps."""
        self._anchors[epoch] = Anchor(view_digest, bits)
        while len(self._anchors) > self._rule.anchors:
            del self._anchors[min(self._anchors)]
        members = tuple(members)
        self._members = frozenset(member.node_id for member in members)
        self._counter = CapCounter(self._rule.caps, members)

    def check_untrusted(self, stamp: bytes, encoded: bytes, source: Source, now: float) -> SignedDescriptor:
        """Takes a descriptor up the whole ladder; arguments and errors as of `check_unverified` and
        `verify_untrusted`."""
        self.check_unverified(stamp, encoded, source, now)
        return self.verify_untrusted(encoded)

    def check_unverified(self, stamp: bytes, encoded: bytes, source: Source, now: float) -> Descriptor:
        """All rungs but the signature. A caller who holds the descriptor already, or has no room, can stop there.

        Args:
            stamp: as in core/work/stamp.py; empty where the network asks for no work.
            source: whose link it came over.
            now: Unix seconds.

        Raises:
            Malformed: it is wrong, and sending it again will not mend it.
            Refused: rate, a stale stamp, or a cap: another time, another stamp or another network.
        """
        rung = Rung.SIZE
        try:
            self._check_size(encoded)
            rung = Rung.RATE
            self._check_rate(source, now)
            rung = Rung.WORK
            self._check_work(stamp, encoded)
            rung = Rung.FORM
            descriptor = decode_unverified(encoded)
            rung = Rung.TIME
            _check_times(descriptor, now)
            rung = Rung.CAPS
            self._check_caps(descriptor)
        except (Malformed, Refused):
            self.counts[rung] += 1
            raise
        return descriptor

    def verify_untrusted(self, encoded: bytes) -> SignedDescriptor:
        """The last rung, for what `check_unverified` let pass.

        Raises:
            Forged: the signature does not verify.
            Malformed: the identity is no key.
        """
        rung = Rung.SIGNATURE
        try:
            signed = decode_untrusted(encoded, self._network_id)
            rung = Rung.TAKEN
            return signed
        finally:
            self.counts[rung] += 1

    def _check_size(self, encoded: bytes) -> None:
        if not MIN_DESCRIPTOR_BYTES < len(encoded) <= MAX_DESCRIPTOR_BYTES:
            raise Malformed(f"a descriptor has {MIN_DESCRIPTOR_BYTES} to {MAX_DESCRIPTOR_BYTES} bytes")
        if not encoded.startswith(self._head):
            raise Malformed("not a descriptor of this network")

    def _check_rate(self, source: Source, now: float) -> None:
        if not isinstance(source, Vouched) and not self._rates.allow(source, now):
            raise Refused("too many descriptors from your network: try again later")

    def _check_work(self, stamp: bytes, encoded: bytes) -> None:
        parameters = self._rule.parameters
        if parameters is None:
            if stamp:
                raise Malformed("this network asks for no work")
            return
        epoch = stamps.epoch_untrusted(stamp, parameters)
        anchor = self._anchors.get(epoch)
        if anchor is None:
            raise Refused("the stamp was made for a view that no longer counts, or that is not known here")
        node_id = NodeId(sha3_256(encoded[_IDENTITY]))
        stamps.verify_untrusted(
            Challenge(self._network_id, node_id, epoch, anchor.view_digest), stamp, parameters, anchor.bits
        )

    def _check_caps(self, descriptor: Descriptor) -> None:
        if descriptor.node_id not in self._members and not self._counter.has_room(descriptor.addresses):
            raise Refused("the view has as many nodes of your address or network as it takes")


def _check_times(descriptor: Descriptor, now: float) -> None:
    if descriptor.published > now + CLOCK_SKEW_SECONDS:
        raise Malformed("the descriptor is from the future: check the node's clock")
    if descriptor.expires <= now:
        raise Malformed("the descriptor has expired: check the node's clock")
