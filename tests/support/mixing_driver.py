"""Drives a mixing strategy as the mixer service does, on a clock that tests move."""

from __future__ import annotations

from collections.abc import Callable

from phantomband.core.cell import CELL_BYTES, Command
from phantomband.core.ids import LinkId
from phantomband.core.mixing.base import Batch, Circuit, Strategy


def cell(circuit: int, number: int, command: Command = Command.RELAY) -> bytes:
    """circuit 4 | command 1 | number 4 | zeros"""
    return (circuit.to_bytes(4, "big") + bytes((command,)) + number.to_bytes(4, "big")).ljust(CELL_BYTES, b"\0")


def number(cell: bytes) -> int:
    return int.from_bytes(cell[5:9], "big")


class Driver:
    """Drives a strategy as the mixer service does: what is due first, then what has arrived.

    What comes for a circuit that the strategy dropped is swallowed.
    """

    def __init__(self, strategy: Strategy) -> None:
        self.strategy = strategy
        self.now = 100.0
        self.released: list[tuple[float, Batch]] = []
        self.numbers: dict[tuple[int, int], int] = {}
        self.put: list[tuple[int, bytes]] = []
        self.dropped: set[Circuit] = set()

    def release(self, now: float) -> None:
        batch = self.strategy.release(now)
        if batch:
            self.released.append((now, batch))

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while (due := self.strategy.deadline) is not None and due <= end:
            self.now = max(self.now, due)
            self.release(self.now)
        self.now = end

    def add(self, link: int, circuits: list[int]) -> None:
        cells = []
        for circuit in circuits:
            number = self.numbers[link, circuit] = self.numbers.get((link, circuit), -1) + 1
            cells.append(cell(circuit, number))
        self.release(self.now)
        self.put += [(link, c) for c in cells]
        self.strategy.add(LinkId(link), [c for c in cells if (link, c[:4]) not in self.dropped], self.now)
        self.dropped.update(self.strategy.take_dropped())

    @property
    def got(self) -> list[tuple[int, bytes]]:
        return [(link, c) for _, batch in self.released for link, cells in batch for c in cells]


class Waits:
    """How long each cell of a driven strategy was held: cells are told apart by link, circuit and number."""

    def __init__(self, strategy: Strategy) -> None:
        self.driver = Driver(strategy)
        self._came: dict[tuple[int, bytes], float] = {}

    def add(self, link: int, circuits: list[int]) -> None:
        before = len(self.driver.put)
        self.driver.add(link, circuits)
        for link_and_cell in self.driver.put[before:]:
            self._came[link_and_cell] = self.driver.now

    def seconds(self) -> list[float]:
        """In the order of release."""
        return [
            now - self._came[link, c] for now, batch in self.driver.released for link, cells in batch for c in cells
        ]


def kolmogorov_smirnov(values: list[float], cdf: Callable[[float], float]) -> float:
    """sqrt(n) D of a sample against a distribution: below 2.23 with probability 0.9999 if it has that distribution.

    Kolmogorov's limit, P = 2 exp(-2 x^2) in its first term.
    """
    n = len(values)
    steps = [(i / n, (i + 1) / n, cdf(value)) for i, value in enumerate(sorted(values))]
    return n**0.5 * max(max(f - low, high - f) for low, high, f in steps)
