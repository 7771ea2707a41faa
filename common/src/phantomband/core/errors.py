"""Every error that PhantomBand raises on purpose.

    PhantomBandError
    ├── Malformed             the peer's fault: bytes that break the protocol
    │   └── Forged            ... bytes whose authentication failed
    ├── UserError             our caller's fault: a value, file or command that cannot work; says what to do
    │   └── ConfigError       ... a configuration key, with file, key, value and remedy
    ├── Refused               a well-formed request that cannot be served now (limit, policy, no path)
    └── Bug                   our own fault: an invariant that does not hold

Bytes from the network raise `Malformed` (or its child) and nothing else. A lower layer never names a higher one in
its messages; the caller adds the context with `raise ... from`.
"""

from __future__ import annotations


class PhantomBandError(Exception):
    """Root of the tree."""


class Malformed(PhantomBandError):
    """The peer sent bytes that the protocol does not allow."""


class Forged(Malformed):
    """A tag, MAC or signature did not verify. Peers are answered alike for every cause."""


class UserError(PhantomBandError):
    """Something the person who started us can mend: says what is wrong and what to do."""


class ConfigError(UserError):
    """A configuration value that cannot be used.

    Args:
        source: the file, environment variable or flag it came from.
        key: dotted key, for example ``exit.policy``.
        value: what was found, already safe to print.
        remedy: what to write instead.
    """

    def __init__(self, source: str, key: str, value: str, problem: str, remedy: str) -> None:
        self.source, self.key, self.value, self.problem, self.remedy = source, key, value, problem, remedy
        super().__init__(f"{source}: {key} = {value}: {problem}. {remedy}")


class Refused(PhantomBandError):
    """A request that is well formed but cannot be served: a limit, a policy, nothing available."""


class Bug(PhantomBandError):
    """An invariant of ours does not hold. The circuit or link concerned is closed and the event counted."""
