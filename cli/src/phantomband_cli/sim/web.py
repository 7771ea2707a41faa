"""Web-like flows: one session on one stream, page after page.

    think (exponential) -> request -> page -> all its objects' requests at once -> objects -> think -> ...

A page is asked for when the one before has come in whole, so a slower network carries fewer pages. Sizes are
log-normal, as those of the web roughly are (many small, few large); the figures are round, not fitted to a capture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class WebModel:
    """Parameters of the generator."""

    think: float = 5.0
    """Seconds between a page and the next: mean of an exponential."""
    request: tuple[int, int] = (300, 1500)
    """Bytes of a request: uniform between both."""
    page: float = 20_000.0
    """Bytes of a page: median of a log-normal with sigma 1."""
    object: float = 8_000.0
    """Bytes of an object: median of a log-normal with sigma 1."""
    objects: float = 5.0
    """Objects of a page: mean of a geometric distribution from 0 on, at most 30."""
    wait: float = 0.05
    """Seconds until the server answers a request: mean of an exponential."""
    largest: int = 500_000
    """Bytes: no page or object is larger."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its answer: bytes there, bytes back, seconds in between."""

    request: int
    answer: int
    wait: float


@dataclass(frozen=True, slots=True)
class Page:
    """A page and what it is made of."""

    main: Exchange
    objects: tuple[Exchange, ...]


class Session:
    """The pages of one user; the same seed gives the same pages, whatever the network does."""

    def __init__(self, model: WebModel, random: Random) -> None:
        self._model = model
        self._random = random

    def think(self) -> float:
        """Seconds until the next page is asked for."""
        return self._random.expovariate(1 / self._model.think)

    def page(self) -> Page:
        """The next page."""
        model = self._model
        main = self._exchange(model.page)
        return Page(main, tuple(self._exchange(model.object) for _ in range(self._object_count())))

    def _object_count(self) -> int:
        more = self._model.objects / (1 + self._model.objects)
        return min(30, int(math.log(1 - self._random.random()) / math.log(more)))

    def _exchange(self, median: float) -> Exchange:
        random, model = self._random, self._model
        size = min(model.largest, max(1, int(random.lognormvariate(math.log(median), 1.0))))
        return Exchange(random.randint(*model.request), size, random.expovariate(1 / model.wait))
