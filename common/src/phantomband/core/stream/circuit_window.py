"""The DATA cells of all streams of an endpoint together: how many may be on their way, and what is credited."""

from __future__ import annotations

from phantomband.core.stream.congestion import Congestion, CongestionParameters
from phantomband.core.stream.credit import CIRCUIT_EVERY, ReceivedLedger, SentLedger


class CircuitWindow:
    """Both directions of one endpoint. Args: mixing: seconds that mixing adds to a round trip."""

    def __init__(self, parameters: CongestionParameters, mixing: float) -> None:
        self.congestion = Congestion(parameters, mixing)
        self.sent = SentLedger(CIRCUIT_EVERY)
        self.received = ReceivedLedger(CIRCUIT_EVERY, parameters.maximum + CIRCUIT_EVERY)
        self._credited = 0

    @property
    def allowed(self) -> int:
        """DATA cells that the congestion window has room for."""
        return self.congestion.window - (self.sent.sent - self._credited)

    def credit_untrusted(self, tag: bytes, now: float) -> None:
        """The other end credits us.

        Raises:
            Malformed: not for the next cell that is to be credited.
        """
        left = self.sent.credit_untrusted(tag)
        self._credited += CIRCUIT_EVERY
        self.congestion.sample(max(now - left, 1e-6), CIRCUIT_EVERY, now)
