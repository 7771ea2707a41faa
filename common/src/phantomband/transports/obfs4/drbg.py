"""The generator that obfs4 derives everything repeatable from: SipHash-2-4 fed with its own output.

    state key 16 | block 8       block[n] = SipHash-2-4(key, block[0] | ... | block[n - 1])

The specification (section 5) feeds only the block before; obfs4proxy never starts the hash anew, and that is what is
spoken on the wire. Numbers are drawn as Go's math/rand draws them, so that a seed gives everybody the same tables.
"""

from __future__ import annotations

from siphash24 import siphash24

SEED_BYTES = 24
_KEY_BYTES = 16


class Drbg:
    """Args: seed: 24 bytes."""

    __slots__ = ("_block", "_hash")

    def __init__(self, seed: bytes) -> None:
        self._hash = siphash24(b"", key=seed[:_KEY_BYTES])
        self._block = seed[_KEY_BYTES:SEED_BYTES]

    def block(self) -> bytes:
        """The next 8 bytes."""
        self._hash.update(self._block)
        block: bytes = self._hash.digest()
        self._block = block
        return block

    def bits63(self) -> int:
        return int.from_bytes(self.block(), "big") & (2**63 - 1)

    def below(self, bound: int) -> int:
        """Uniform in [0, bound), for bounds below 2^31 (math/rand, Int31n)."""
        if bound & (bound - 1) == 0:
            return self.bits63() >> 32 & (bound - 1)
        highest = 2**31 - 1 - 2**31 % bound
        while (value := self.bits63() >> 32) > highest:
            pass
        return value % bound

    def fraction(self) -> float:
        """Uniform in [0, 1), a multiple of 2^-53 (math/rand, Float64)."""
        return (self.bits63() & (2**53 - 1)) / 2**53

    def permutation(self, count: int) -> list[int]:
        """Of 0 to count - 1 (math/rand, Perm)."""
        out = [0] * count
        for i in range(count):
            j = self.below(i + 1)
            out[i] = out[j]
            out[j] = i
        return out
