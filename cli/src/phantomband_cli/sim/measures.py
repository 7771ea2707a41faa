"""How well a matrix of scores links, on arrays. Estimates and intervals: metrics.py.

Client i belongs to server i; there may be more servers than clients.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from phantomband_cli.sim.adversaries.base import Floats, Scores

SCALES = np.geomspace(0.1, 3000.0, 40)
"""Sharpnesses tried when scores are made into probabilities."""


def top1(scores: Scores) -> float:
    """Share of clients whose own server has the best score; k servers at the top count as 1/k."""
    return float(_firsts(scores).mean())


def _firsts(scores: Scores) -> Floats:
    best = scores.max(axis=1)
    own = np.diagonal(scores)
    return np.asarray(np.where(own >= best, 1.0 / (scores == best[:, None]).sum(axis=1), 0.0))


def true_positives(scores: Scores, false_positives: float) -> float | None:
    """Share of true pairs above the threshold that lets through at most this share of the wrong pairs.

    Returns: None if there are too few wrong pairs to know (less than one expected false positive).
    """
    wrong = scores[np.eye(*scores.shape, dtype=np.bool_) == 0]
    allowed = int(wrong.size * false_positives + 1e-9)
    if not allowed:
        return None
    threshold = np.partition(wrong, wrong.size - allowed - 1)[wrong.size - allowed - 1]
    return float((np.diagonal(scores) > threshold).mean())


def times_to_link(by_time: Sequence[tuple[float, Scores]]) -> list[float]:
    """For each client the first time from which on its server is, alone, at the top; infinity for never."""
    holds = np.ones(len(by_time[0][1]), dtype=bool)
    out = np.full(holds.size, np.inf)
    for seconds, scores in reversed(by_time):
        holds &= _firsts(scores) == 1.0
        out[holds] = seconds
    return [float(x) for x in out]


def entropies(all_scores: Sequence[Scores]) -> tuple[list[float], list[float]]:
    """By network: Shannon entropy and min-entropy, bits, of what the adversary believes about a client; means.

    Scores become probabilities by a softmax. Its sharpness is what explains the truth best in the *other* half of the
    networks, so the beliefs are honest: an adversary who knows nothing has log2(servers) bits, not fewer.
    """
    halves = all_scores[::2], all_scores[1::2]
    sharp = [_sharpness(halves[1] or halves[0]), _sharpness(halves[0])]
    shannon, least = [], []
    for number, scores in enumerate(all_scores):
        logs = _log_beliefs(scores, sharp[number % 2])
        shannon.append(float(-(np.exp(logs) * logs).sum(axis=1).mean() / np.log(2)))
        least.append(float(-logs.max(axis=1).mean() / np.log(2)))
    return shannon, least


def _sharpness(examples: Sequence[Scores]) -> float:
    scale = float(np.mean([scores[scores > -100].std() for scores in examples])) or 1.0
    worth = [
        sum(float(np.diagonal(_log_beliefs(scores, s / scale)).sum()) for scores in examples) for s in (0.0, *SCALES)
    ]
    return float((0.0, *SCALES)[int(np.argmax(worth))] / scale)


def _log_beliefs(scores: Scores, sharpness: float) -> Floats:
    logs = scores * sharpness
    logs = logs - logs.max(axis=1, keepdims=True)
    return np.asarray(np.maximum(logs - np.log(np.exp(logs).sum(axis=1, keepdims=True)), -300.0))
