"""Results as SVG: the same results give the same file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from tables import order

mpl.rcParams["svg.hashsalt"] = "phantomband"
Row = dict[str, Any]


def everything(results: Row, folder: Path, name: str) -> None:
    """Files that are named so, and -adversaries.svg, -time.svg, -cost.svg, -mixer.svg."""
    _adversaries(results, folder / f"{name}-adversaries.svg")
    _time(results, folder / f"{name}-time.svg")
    _cost(results, folder / f"{name}-cost.svg")
    _mixer(results, folder / f"{name}-mixer.svg")


def _save(figure: Any, file: Path) -> None:
    figure.tight_layout()
    figure.savefig(file, format="svg", metadata={"Date": None})
    plt.close(figure)


def _middle(results: Row, adversary: str) -> list[Row]:
    long = results["size"]["long"]
    rows = [
        r for r in results["passive"] if r["load"] == "middle" and r["watched"] == long and r["adversary"] == adversary
    ]
    return sorted(rows, key=lambda row: order(row["profile"]))


def _adversaries(results: Row, file: Path) -> None:
    names = [row["profile"] for row in _middle(results, "learned")]
    series: dict[str, dict[str, Row]] = {}
    for row in _middle(results, "guard and exit") + _middle(results, "learned") + results["active"]:
        series.setdefault(row["adversary"], {})[row["profile"]] = row["top1"]
    series["website fingerprinting"] = {row["profile"]: row["forest"] for row in results["fingerprinting"]}
    figure, axes = plt.subplots(figsize=(9, 0.62 * len(names) + 1.6))
    height = 0.8 / len(series)
    for number, (adversary, found) in enumerate(series.items()):
        at = np.arange(len(names)) + number * height
        shown = [found.get(name) for name in names]
        values = [e["value"] * 100 if e else 0.0 for e in shown]
        spread = [
            [(e[k] - e["value"]) * sign * 100 if e else 0.0 for e in shown] for k, sign in (("low", -1), ("high", 1))
        ]
        axes.barh(at, values, height, label=adversary, xerr=np.maximum(spread, 0), error_kw={"lw": 0.7})
    axes.set_yticks(np.arange(len(names)) + 0.4 - height / 2, names)
    axes.invert_yaxis()
    axes.set_xlabel("right at the first guess, %")
    axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=3)
    _save(figure, file)


def _time(results: Row, file: Path) -> None:
    figure, axes = plt.subplots(figsize=(8, 4.5))
    axes.set_prop_cycle(color=plt.get_cmap("tab20").colors)
    for row in _middle(results, "guard and exit"):
        points = [(float(k.removeprefix("top1_after_")), v) for k, v in row.items() if k.startswith("top1_after_")]
        times = [seconds for seconds, _ in points]
        line = axes.plot(times, [100 * e["value"] for _, e in points], label=row["profile"])[0]
        axes.fill_between(
            times,
            [100 * e["low"] for _, e in points],
            [100 * e["high"] for _, e in points],
            alpha=0.15,
            color=line.get_color(),
        )
    axes.set_xlabel("seconds watched")
    axes.set_ylabel("guard and exit: right at the first guess, %")
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _save(figure, file)


def _cost(results: Row, file: Path) -> None:
    """After the shorter time: with the longer one most strategies lie on one line."""
    short = results["size"]["short"]
    figure, axes = plt.subplots(figsize=(8, 5.5))
    for row in results["passive"]:
        if row["load"] != "middle" or row["watched"] != short or row["adversary"] != "learned":
            continue
        x, y = row["first_byte"]["value"], row["top1"]["value"]
        if x is None or y is None:
            continue
        axes.scatter(x, 100 * y, s=20 * row["client_cells_a_second"]["value"] ** 0.5)
        axes.annotate(row["profile"], (x, 100 * y), fontsize=7, xytext=(3, 5), textcoords="offset points", rotation=40)
    axes.set_xscale("log")
    ticks = [0.15, 0.3, 0.6, 1, 2, 4, 8]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_ylim(-5, 118)
    axes.set_xlabel("first byte of a page, s (median); larger points: more cells on the client's link")
    axes.set_ylabel(f"learned, {short:g} s: right at the first guess, %")
    _save(figure, file)


def _mixer(results: Row, file: Path) -> None:
    figure, axes = plt.subplots(figsize=(8, 4.5))
    axes.set_prop_cycle(color=plt.get_cmap("tab20").colors)
    for profile in dict.fromkeys(row["profile"] for row in results["flooding"]):
        rows = [row for row in results["flooding"] if row["profile"] == profile]
        rates = [row["honest"] for row in rows]
        line = axes.plot(rates, [100 * row["n_minus_1"]["value"] for row in rows], label=profile, marker="o", ms=3)[0]
        axes.plot(rates, [100 * row["passive"]["value"] for row in rows], ls=":", color=line.get_color())
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("honest cells a second through the mixer")
    axes.set_ylabel("target's cell named, % (dotted: without n-1)")
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _save(figure, file)
