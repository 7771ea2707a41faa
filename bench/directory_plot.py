"""Figures of bench/directory.py as PNG: the same figures give the same picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

BLUE, GREY, RED = "#4477aa", "#bbbbbb", "#cc3311"
SAMPLED = ("hops", "seconds", "by_victim", "times_50", "times_99", "times_100")
"""Lists in a row: for plots, too long to print."""

Row = dict[str, Any]


def plot(results: dict[str, Any], folder: Path) -> None:
    """Writes directory-*.png of what `results` has."""
    for name, draw, group in (
        ("success", success, "defences"),
        ("aimed", aimed, "aimed"),
        ("hops", hops_and_seconds, "large"),
        ("gossip", gossip, "gossip"),
    ):
        if rows := {key: row for key, row in results.get(group, {}).items() if key != "sizes"}:
            draw(rows, results[group].get("sizes", {}), folder / f"directory-{name}.png")


def without_samples(results: dict[str, Any]) -> dict[str, Any]:
    """`results` without the lists that only plots need."""
    return {
        key: without_samples(value) if isinstance(value, dict) else value
        for key, value in results.items()
        if not (key in SAMPLED and isinstance(value, list))
    }


def success(rows: dict[str, Row], sizes: Row, file: Path) -> None:
    """The same attacks with all defences and without each, side by side."""
    attacks = [name for name in ("liars", "both") if name in rows]
    figure, axes = plt.subplots(1, len(attacks), figsize=(4.6 * len(attacks), 3.4), squeeze=False, sharey=True)
    titles = {"liars": "20% liars", "both": "20% liars and ten Sybils for each honest one"}
    for axis, attack in zip(axes[0], attacks, strict=True):
        shown = {"all defences": rows[attack]}
        shown |= {name.removeprefix(f"{attack}, "): row for name, row in rows.items() if name.startswith(f"{attack}, ")}
        _bars(axis, shown)
        axis.set_title(titles[attack], fontsize=10)
    axes[0][0].set_ylabel("searches that succeed, %, 95%")
    _save(figure, file)


def aimed(rows: dict[str, Row], sizes: Row, file: Path) -> None:
    """Attacks on one victim: beside each the same without one defence."""
    families = [one for one in ("key", "directory", "impostors") if any(name.startswith(one) for name in rows)]
    widths = [sum(name.startswith(one) for name in rows) + 1 for one in families]
    figure, axes = plt.subplots(
        1, len(families), figsize=(0.75 * sum(widths) + 1, 3.8), squeeze=False, sharey=True, width_ratios=widths
    )
    titles = {"key": "at one key", "directory": "at one directory", "impostors": "others' ids"}
    for axis, family in zip(axes[0], families, strict=True):
        shown = {name: row for name, row in rows.items() if name.startswith(family)}
        _bars(axis, {name.removeprefix(f"{family}, ") or "all": row for name, row in shown.items()})
        axis.set_title(titles[family], fontsize=10)
    axes[0][0].set_ylabel("searches that succeed, %, 95%")
    _save(figure, file)


def hops_and_seconds(rows: dict[str, Row], sizes: Row, file: Path) -> None:
    """Parts of the successful searches by hops; and by seconds, as a distribution."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.4))
    for at, (name, row) in enumerate(rows.items()):
        counts = Counter(row["hops"])
        total = max(1, counts.total())
        color = (BLUE, "#228833", RED)[at % 3]
        where = [hops + 0.27 * (at - 1) for hops in sorted(counts)]
        left.bar(where, [100 * counts[hops] / total for hops in sorted(counts)], 0.25, color=color, label=name)
        _distribution(right, row["seconds"], color, name)
    left.set_xlabel("hops")
    left.set_ylabel("% of successful searches")
    right.set_xscale("log")
    right.set_xlabel("seconds")
    left.legend(fontsize=8, title=f"{sizes.get('directories', 0):,} directories", title_fontsize=8)
    _save(figure, file)


def gossip(rows: dict[str, Row], sizes: Row, file: Path) -> None:
    """Over all new records: the seconds until so many of the honest directories have it."""
    figure, axes = plt.subplots(1, len(rows), figsize=(2.9 * len(rows) + 0.6, 3.2), sharey=True, squeeze=False)
    for axis, (name, row) in zip(axes[0], rows.items(), strict=True):
        for part, color in (("50", GREY), ("99", BLUE), ("100", RED)):
            _distribution(axis, row[f"times_{part}"], color, f"{part}%")
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("seconds")
    axes[0][0].set_ylabel("% of new records")
    axes[0][0].legend(fontsize=8, title="have it", title_fontsize=8)
    _save(figure, file)


def _bars(axis: Axes, rows: dict[str, Row]) -> None:
    values = [100 * row["success"] for row in rows.values()]
    below = [max(0.0, 100 * (row["success"] - row["success_low"])) for row in rows.values()]
    above = [max(0.0, 100 * (row["success_high"] - row["success"])) for row in rows.values()]
    colors = [GREY if "without" in name else BLUE for name in rows]
    axis.bar(list(rows), values, color=colors, yerr=[below, above], capsize=3)
    axis.set_ylim(0, 105)
    axis.tick_params(axis="x", labelsize=8)
    for label in axis.get_xticklabels():
        label.set(rotation=40, ha="right", rotation_mode="anchor")


def _distribution(axis: Axes, values: Sequence[float], color: str, label: str) -> None:
    ordered = sorted(values)
    axis.step(ordered, [100 * (at + 1) / len(ordered) for at in range(len(ordered))], color=color, label=label)


def _save(figure: plt.Figure, file: Path) -> None:
    figure.tight_layout()
    figure.savefig(file, format="png", dpi=100, metadata={"Software": None})
    plt.close(figure)
