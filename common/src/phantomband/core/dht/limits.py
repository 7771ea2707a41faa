"""How much one prefix may ask: a token bucket each, for the prefixes heard from last."""

from __future__ import annotations

from collections import OrderedDict

from phantomband.core.dht.parameters import Parameters


class RateLimits:
    """`rate` requests a second and `burst` at once of each prefix; at most `rated` prefixes are remembered."""

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self._tokens: OrderedDict[bytes, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tokens)

    def allows(self, prefix: bytes, now: float) -> bool:
        """Takes one token, if there is one."""
        p = self._parameters
        tokens, since = self._tokens.pop(prefix, (p.burst, now))
        tokens = min(p.burst, tokens + max(0.0, now - since) * p.rate)
        allowed = tokens >= 1
        self._tokens[prefix] = (tokens - 1 if allowed else tokens, now)
        if len(self._tokens) > p.rated:
            self._tokens.popitem(last=False)
        return allowed
