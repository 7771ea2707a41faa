"""The CREATEs of a relay that wait for their answer from a worker."""

from __future__ import annotations

from phantomband.core.cell import LINK_CIRCUIT
from phantomband.core.circuit.messages import decode_create_untrusted
from phantomband.core.circuit.relay_circuit import RelayLink
from phantomband.core.circuit.relay_types import HandshakeJob, RelayCounters, RelayEffects, RelayLimits
from phantomband.core.errors import Malformed
from phantomband.core.ids import CircuitId, HopNumber


class RelayHandshakes:
    """Bounded for each link, and in all by whoever runs them; one more is answered with DESTROY."""

    def __init__(self, limits: RelayLimits, effects: RelayEffects, counters: RelayCounters) -> None:
        self._limits, self._effects, self._counters = limits, effects, counters

    def create_untrusted(self, link: RelayLink, circuit: bytes, body: bytes, circuits: int) -> None:
        """A CREATE that came on a link. Args: circuits: how many there are.

        Raises:
            Malformed: its body is none, or the peer may not use this circuit id now.
        """
        theirs = bool(circuit[0] & 0x80) == link.dialed
        if circuit == LINK_CIRCUIT or circuit in link.owners or not theirs:
            raise Malformed("CREATE for a circuit id that the peer may not use now")
        hop, onion_skin = decode_create_untrusted(body)
        limits = self._limits
        full = circuits >= limits.circuits or len(link.owners) >= limits.circuits_per_link
        if full or link.pending >= limits.pending_per_link:
            self._refuse(link, circuit)
            return
        link.owners[circuit] = None
        link.pending += 1
        self._effects.handshake(HandshakeJob(link.id, CircuitId(circuit), HopNumber(hop), onion_skin, link.source))

    def done(self, job: HandshakeJob, link: RelayLink | None) -> bool:
        """The worker has answered. Args: link: the job's; None if it is gone.

        Returns: whether anybody still waits.
        """
        if link is None or not self.wanted(job, link):
            return False
        link.pending -= 1
        return True

    @staticmethod
    def wanted(job: HandshakeJob, link: RelayLink | None) -> bool:
        """Whether anybody waits for the answer. Not after a DESTROY, nor if another CREATE of the same id was answered
        meanwhile: a peer must not use one twice."""
        return link is not None and link.owners.get(job.circuit, job) is None

    def failed(self, job: HandshakeJob, link: RelayLink) -> None:
        """The peer learns it as DESTROY."""
        del link.owners[job.circuit]
        self._refuse(link, job.circuit)

    def _refuse(self, link: RelayLink, circuit: bytes) -> None:
        self._counters.circuits_refused += 1
        link.send_destroy(circuit)
