"""Equihash: work that needs memory to do and microseconds to check (Biryukov, Khovratovich, "Equihash: Asymmetric
Proof-of-Work Based on the Generalized Birthday Problem", NDSS 2016; as in the Zcash protocol specification, section
7.7.1, but with a personalisation of our own).

A header names 2^(n/(k+1)+1) numbers of n bits, each a piece of a BLAKE2b hash. A solution is 2^k different indices
whose numbers XOR to zero, arranged as a binary tree: at height h the leading h * n/(k+1) bits under each node XOR to
zero, and the first index of a node's left half is less than that of its right half.

    solution = indices, n/(k+1) + 1 bits each, big-endian, packed without gaps
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from phantomband.core.errors import Malformed, UserError

PERSON = b"pb-equih"
"""First 8 bytes of the BLAKE2b personalisation; n and k follow as 4 bytes each, little-endian."""

HASH_BITS = 512
"""One BLAKE2b hash is cut into as many numbers as fit (Zcash specification, section 7.7.1)."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """n and k. Memory to solve grows with 2^(n/(k+1)), time to check with 2^k."""

    n: int
    k: int
    person: bytes = PERSON

    def __post_init__(self) -> None:
        bits = self.n // (self.k + 1)
        if not (3 <= self.k <= 8 and self.n % 8 == 0 and self.n % (self.k + 1) == 0 and 8 <= bits <= 24):
            raise UserError(f"Equihash has no parameters n={self.n}, k={self.k} here.")
        if len(self.person) != len(PERSON):
            raise UserError(f"The personalisation has {len(PERSON)} bytes.")

    @property
    def collision_bits(self) -> int:
        """Bits that collide at each height of the tree."""
        return self.n // (self.k + 1)

    @property
    def index_bits(self) -> int:
        return self.collision_bits + 1

    @property
    def leaves(self) -> int:
        """Indices of one solution."""
        return 1 << self.k

    @property
    def numbers_per_hash(self) -> int:
        return HASH_BITS // self.n

    @property
    def solution_bytes(self) -> int:
        return self.leaves * self.index_bits // 8

    def hasher(self, header: bytes) -> hashlib.blake2b:
        """BLAKE2b that has taken `header`; a copy of it takes a hash's number, 4 bytes little-endian."""
        person = self.person + self.n.to_bytes(4, "little") + self.k.to_bytes(4, "little")
        return hashlib.blake2b(header, digest_size=self.numbers_per_hash * self.n // 8, person=person)


TINY = Parameters(48, 5)
"""For tests: solved in milliseconds."""

SMALL = Parameters(96, 5)
"""2^17 numbers: fits in a processor's cache, so it takes time and no memory worth the name."""

PUBLIC = Parameters(120, 5)
"""2^21 numbers: some 100 MB and a second (docs/explanation/admission.md). What public networks should take."""

LARGE = Parameters(144, 5)
"""2^25 numbers: some GB."""

BY_NAME = {"tiny": TINY, "small": SMALL, "public": PUBLIC, "large": LARGE}


def verify_untrusted(header: bytes, solution: bytes, parameters: Parameters) -> None:
    """Returns if `solution` solves `header`. Looks at one leaf after the other and stops at the first wrong node, so
    that a bogus solution mostly costs two hashes.

    Raises:
        Malformed: wrong size, an index twice, wrong order, or no collision at some height.
    """
    indices = unpack_untrusted(solution, parameters)
    if len(set(indices)) != len(indices):
        raise Malformed("the work names an index twice")
    start, size, per_hash = parameters.hasher(header), parameters.n // 8, parameters.numbers_per_hash
    lefts: list[tuple[int, int]] = []
    for position, index in enumerate(indices):
        number, at = divmod(index, per_hash)
        hasher = start.copy()
        hasher.update(number.to_bytes(4, "little"))
        xor = int.from_bytes(hasher.digest()[at * size : at * size + size], "big")
        unchecked, first = parameters.n, index
        while position & 1:  # this leaf ends a right half: go up
            left_xor, left_first = lefts.pop()
            if left_first >= first:
                raise Malformed("the work's indices are out of order")
            xor, first = xor ^ left_xor, left_first
            unchecked -= parameters.collision_bits
            if xor >> unchecked:
                raise Malformed("the work's numbers do not collide")
            position >>= 1
        lefts.append((xor, first))
    if lefts[0][0]:
        raise Malformed("the work's numbers do not XOR to zero")


def pack(indices: Sequence[int], parameters: Parameters) -> bytes:
    """Returns: `parameters.solution_bytes` bytes."""
    packed = 0
    for index in indices:
        packed = packed << parameters.index_bits | index
    return packed.to_bytes(parameters.solution_bytes, "big")


def unpack_untrusted(solution: bytes, parameters: Parameters) -> list[int]:
    """Returns: 2^k indices; any bytes of the right size give some.

    Raises:
        Malformed: wrong size.
    """
    if len(solution) != parameters.solution_bytes:
        raise Malformed(f"work of n={parameters.n}, k={parameters.k} has {parameters.solution_bytes} bytes")
    packed, width, mask = int.from_bytes(solution, "big"), parameters.index_bits, (1 << parameters.index_bits) - 1
    return [packed >> shift & mask for shift in range(width * (parameters.leaves - 1), -1, -width)]
