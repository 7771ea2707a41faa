"""Solver of Equihash: Wagner's algorithm in numpy (Wagner, "A Generalized Birthday Problem", CRYPTO 2002).

One row for each number, one column for each n/(k+1) bits of it. In each round rows that are equal in the first column
are paired; a pair's row is the XOR of both without that column. After k rounds nothing is left but pairs of zero rows;
the tree of pairs gives the indices. Not the fastest solver there is: whoever writes one in C or for a graphics card is
many times faster, and the difficulty has to reckon with that.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from phantomband.core.errors import Refused
from phantomband.core.work import stamp
from phantomband.core.work.equihash import Parameters, pack
from phantomband.core.work.stamp import NONCE_BYTES, Challenge

Words = npt.NDArray[np.uint32]
Pairs = tuple[Words, Words]

SLACK = 1.25
"""Rows kept of a round, as a multiple of the first round's. More than expected come by chance only, and cost memory."""


def make_stamp(challenge: Challenge, parameters: Parameters, bits: int, first_nonce: int, tries: int) -> bytes:
    """Searches nonce after nonce.

    Args:
        first_nonce: where to begin, up to 2^128; another for each machine that searches for one challenge.
        tries: nonces at most; about 2^bits / 2 are needed on average.

    Returns: a stamp that `stamp.verify_untrusted` takes.

    Raises:
        Refused: none was found.
    """
    for number in range(first_nonce, first_nonce + tries):
        nonce = (number % 2 ** (8 * NONCE_BYTES)).to_bytes(NONCE_BYTES, "big")
        for indices in solve(challenge.encode() + nonce, parameters):
            solution = pack(indices, parameters)
            if stamp.meets(challenge, nonce + solution, bits):
                return stamp.encode_stamp(challenge, nonce, solution)
    raise Refused(f"no stamp of {bits} bits among {tries} nonces: try more of them")


def solve(header: bytes, parameters: Parameters) -> list[tuple[int, ...]]:
    """Returns: every solution of `header`, sorted, each as its 2^k indices in their order; two on average."""
    columns = _columns(header, parameters)
    limit = int(SLACK * len(columns[0]))
    rounds: list[Pairs] = []
    while len(columns) > 2:
        left, right = (np.concatenate(parts)[:limit] for parts in zip(*_collisions(columns[0])))
        columns = [column[left] ^ column[right] for column in columns[1:]]
        kept = np.logical_or.reduce([column != 0 for column in columns])  # equal rows hold equal indices
        columns = [column[kept] for column in columns]
        rounds.append((left[kept], right[kept]))
    found = []
    for left, right in _collisions(columns[0]):
        same = columns[1][left] == columns[1][right]
        found += list(zip(left[same].tolist(), right[same].tolist()))
    trees = {_ordered(_expand(pair, rounds)) for pair in found}
    return sorted(tree for tree in trees if len(set(tree)) == parameters.leaves)


def _columns(header: bytes, parameters: Parameters) -> list[Words]:
    """The numbers, cut into columns of n/(k+1) bits, most significant first."""
    rows, size, width = 1 << parameters.index_bits, parameters.n // 8, parameters.collision_bits
    start, hashes = parameters.hasher(header), []
    for number in range(-(-rows // parameters.numbers_per_hash)):
        hasher = start.copy()
        hasher.update(number.to_bytes(4, "little"))
        hashes.append(hasher.digest())
    flat = np.frombuffer(b"".join(hashes), np.uint8)[: rows * size].reshape(rows, size)
    del hashes
    return [_bits(flat, i * width, width) for i in range(parameters.k + 1)]


def _bits(flat: npt.NDArray[np.uint8], start: int, width: int) -> Words:
    """Bits `start` to `start + width`, at most 32 with those before them in their first byte."""
    first, last = start // 8, (start + width - 1) // 8
    word = np.zeros(len(flat), np.uint32)
    for byte in range(first, last + 1):
        word <<= np.uint32(8)
        word |= flat[:, byte]
    word >>= np.uint32(8 * (last + 1) - start - width)
    word &= np.uint32((1 << width) - 1)
    return word


def _collisions(column: Words) -> Iterator[Pairs]:
    """All pairs of rows with equal values: neighbours in sorted order, then those two apart, and so on."""
    keyed = column.astype(np.uint64)
    keyed <<= np.uint64(32)
    keyed |= np.arange(len(column), dtype=np.uint64)
    keyed.sort()
    rows, keys = keyed.astype(np.uint32), (keyed >> np.uint64(32)).astype(np.uint32)
    del keyed
    starts = np.arange(len(rows))
    apart = 1
    while True:
        starts = starts[: np.searchsorted(starts, len(rows) - apart)]
        starts = starts[keys[starts] == keys[starts + apart]]
        if not len(starts) and apart > 1:
            return
        yield rows[starts], rows[starts + apart]
        apart += 1


def _expand(pair: tuple[int, int], rounds: list[Pairs]) -> list[int]:
    """The indices under one pair of the last round."""
    rows = list(pair)
    for left, right in reversed(rounds):
        rows = [int(child) for row in rows for child in (left[row], right[row])]
    return rows


def _ordered(indices: list[int]) -> tuple[int, ...]:
    """The same tree with each node's halves in order of their first index."""
    trees: list[tuple[int, ...]] = [(index,) for index in indices]
    while len(trees) > 1:
        trees = [min(a, b) + max(a, b) for a, b in zip(trees[::2], trees[1::2])]
    return trees[0]
