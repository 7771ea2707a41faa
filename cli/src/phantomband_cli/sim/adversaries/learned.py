"""A correlator that learns: gradient boosting (scikit-learn) on features of pairs, trained on networks of its own.

The features are what the other passive adversaries look at, at several lengths of bins, volumes, and where links carry
dummies whether the server's bytes explain the climbs of the client's link (`ladder.py`). It trains on
copies of the network that are then not judged: an adversary runs the same software with users of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

from phantomband_cli.sim.adversaries.base import Floats, Observation, Scores
from phantomband_cli.sim.adversaries.ends import SHORTEST_LAG, Ends, best, tuned, unit
from phantomband_cli.sim.adversaries.everywhere import Everywhere
from phantomband_cli.sim.adversaries.ladder import Ladder

WRONG_PAIRS = 40
"""Wrong pairs for each true one in training; the others are left out."""

WIDTHS = (1, 4, 16)
"""Bins joined, beside what the tuned correlator takes."""


class Learned:
    """Trained once, then an adversary like the others."""

    name = "learned"

    def __init__(self, examples: Sequence[Observation], until: float, *, everywhere: bool = False) -> None:
        """Args: examples: networks of which it knows who is who: client i uses server i."""
        self.everywhere = everywhere
        rng = np.random.default_rng(1)
        rows, labels = [], []
        for seen in examples:
            table = self._features(seen, until)
            count = len(table)
            wrong = rng.integers(1, count, (count, WRONG_PAIRS)) + np.arange(count)[:, None]
            rows += [
                table[np.arange(count), np.arange(count)],
                table[np.arange(count)[:, None], wrong % count].reshape(-1, table.shape[2]),
            ]
            labels += [np.ones(count), np.zeros(count * WRONG_PAIRS)]
        self._model = HistGradientBoostingClassifier(
            max_iter=120, learning_rate=0.08, max_leaf_nodes=15, random_state=1
        )
        self._model.fit(np.concatenate(rows), np.concatenate(labels))

    def scores(self, seen: Observation, until: float) -> Scores:
        table = self._features(seen, until)
        flat = table.reshape(-1, table.shape[2])
        out: Scores = self._model.decision_function(flat).reshape(table.shape[:2])
        # Trees give few different values: the plain correlator breaks ties.
        return out + 1e-3 * table[:, :, 0]

    def _features(self, seen: Observation, until: float) -> Floats:
        """(clients, servers, features)."""
        n = seen.bins(until)
        out = [Everywhere().scores(seen, until) if self.everywhere else Ends().scores(seen, until)]
        if seen.covered:
            out.append(Ladder().scores(seen, until))
        joined, _ = tuned(seen)
        for k in sorted({*WIDTHS, joined}):
            if n // k < 4:
                continue
            lags = min(20, round(max(SHORTEST_LAG, seen.lag) / (k * seen.bin)))
            for centred in (False, True):
                a, b, c, d = (
                    unit(s[:, :n], k, centred=centred)
                    for s in (seen.client_up, seen.server_up, seen.server_down, seen.client_down)
                )
                out += [best(a, b, lags), best(c, d, lags).T]
        out += [
            _ratio(seen.client_down[:, :n], seen.server_down[:, :n]),
            _ratio(seen.client_up[:, :n], seen.server_up[:, :n]),
        ]
        return np.stack([*out, *_ranks(out[: len(out) - 2])], axis=2)


def _ratio(client: Floats, server: Floats) -> Scores:
    """Logarithm of volumes' ratio, around its median."""
    out = np.log1p(client.sum(axis=1))[:, None] - np.log1p(server.sum(axis=1))[None, :]
    return np.asarray(out - np.median(out))


def _ranks(features: list[Scores]) -> list[Scores]:
    """How far each score stands out among its client's, in standard deviations."""
    return [(f - f.mean(axis=1, keepdims=True)) / (f.std(axis=1, keepdims=True) + 1e-9) for f in features]
