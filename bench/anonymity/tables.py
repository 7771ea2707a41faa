"""Results as Markdown tables: those of the terminal and of docs/explanation/anonymity.md."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

Row = dict[str, Any]
Column = tuple[str, Callable[[Row], str]]


def everything(results: Row) -> str:
    """All tables."""
    return "\n\n".join(f"### {title}\n\n{text}" for title, text in parts(results).values())


def parts(results: Row) -> dict[str, tuple[str, str]]:
    """By the name that the documents use: title and table."""
    size = results["size"]
    long, short = size["long"], size["short"]

    def passive(load: str, watched: float) -> list[Row]:
        return [row for row in results["passive"] if row["load"] == load and row["watched"] == watched]

    out = {"passive": (f"Passive, middle load, {long:g} s", _watchers(passive("middle", long)))}
    out["costs"] = ("Costs, middle load", _costs(passive("middle", long)))
    if long != short:
        out["short"] = (f"Passive, middle load, {short:g} s", _watchers(passive("middle", short)))
    for load in ("low", "high"):
        if rows := passive(load, short):
            out[load] = (f"Passive, {load} load, {short:g} s", _watchers(rows))
    out["active"] = ("Active, and start and end of sessions", _pivot(results["active"], "top1"))
    out["fingerprinting"] = ("Website fingerprinting", _sorted(results["fingerprinting"], FINGERPRINTING))
    out["mixer"] = ("One mixer: naming the target's cell", _sorted(results["flooding"], FLOODING))
    out["capture"] = ("Path capture, 100 nodes", table(results["capture"], CAPTURE))
    out["intersection"] = ("Intersection, 10,000 users", table(results["intersection"], INTERSECTION))
    out["theory"] = ("Theory", table(results["theory"], THEORY))
    return out


def filled(document: str, results: Row) -> str:
    """The document with its tables made anew: each stands between `<!-- figures: name -->` and `<!-- end -->`."""
    for name, (_, text) in parts(results).items():
        pattern = re.compile(rf"(<!-- figures: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        document = pattern.sub(lambda found, text=text: f"{found[1]}{text}\n{found[2]}", document)
    return document


def _sorted(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    return table(sorted(rows, key=lambda row: order(row["profile"])), columns)


def table(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """Rows in Markdown."""
    lines = [
        [title for title, _ in columns],
        ["---"] * len(columns),
        *([show(row) for _, show in columns] for row in rows),
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def show(estimate: Row | None, scale: float = 1.0, form: str = ".1f") -> str:
    """value (low to high); `never` or `unknown` values are a dash."""
    if estimate is None or estimate["value"] is None:
        return "-"
    value, low, high = (
        "-" if estimate[k] is None else format(estimate[k] * scale, form) for k in ("value", "low", "high")
    )
    return value if low == high == value else f"{value} ({low} to {high})"


def _column(title: str, key: str, scale: float = 1.0, form: str = ".1f") -> Column:
    return title, lambda row: show(row.get(key), scale, form)


def _watchers(rows: Sequence[Row]) -> str:
    """One line for each profile: top-1 of each adversary, then what the last of them and the first give."""
    by_profile: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_profile.setdefault(row["profile"], {})[row["adversary"]] = row
    lines = []
    for profile, found in by_profile.items():
        ends, learned = found["guard and exit"], found["learned"]
        lines.append(
            {
                "profile": profile,
                "ends": ends["top1"],
                "links": found["all links"]["top1"],
                "ladder": found.get("ladder", {}).get("top1"),
                "learned": learned["top1"],
                "tpr3": learned["tpr_0.001"],
                "tpr4": learned["tpr_0.0001"],
                "shannon": learned["shannon"],
                "min": learned["min_entropy"],
                "time": ends["time_to_link"],
            }
        )
    return table(sorted(lines, key=lambda line: order(line["profile"])), WATCHERS)


def order(profile: str) -> tuple[int, str]:
    """The control first, the profiles last."""
    return (0 if profile == "none" else 2 if profile.startswith(("balanced", "strong")) else 1, profile)


WATCHERS: list[Column] = [
    ("", lambda row: row["profile"]),
    _column("guard and exit: top-1, %", "ends", 100),
    _column("all links: top-1, %", "links", 100),
    _column("ladder: top-1, %", "ladder", 100),
    _column("learned: top-1, %", "learned", 100),
    _column("TPR at FPR 1e-3, %", "tpr3", 100),
    _column("TPR at FPR 1e-4, %", "tpr4", 100),
    _column("Shannon, bits", "shannon", 1, ".2f"),
    _column("min-entropy, bits", "min", 1, ".2f"),
    _column("time to link, s", "time", 1, ".0f"),
]


def _costs(rows: Sequence[Row]) -> str:
    once = [row for row in rows if row["adversary"] == "guard and exit"]
    return table(sorted(once, key=lambda row: order(row["profile"])), COSTS)


COSTS: list[Column] = [
    ("", lambda row: row["profile"]),
    _column("first byte, ms", "first_byte", 1000, ".0f"),
    _column("page, s", "page", 1, ".2f"),
    _column("pages a minute", "pages_a_minute", 1, ".1f"),
    _column("client's link, cells/s", "client_cells_a_second", 1, ".1f"),
    _column("all links, cells/s a user", "cells_a_second", 1, ".0f"),
    _column("dummies, %", "dummy_share", 100, ".1f"),
]


def _pivot(rows: Sequence[Row], key: str) -> str:
    """Profiles by adversaries."""
    adversaries = list(dict.fromkeys(row["adversary"] for row in rows))
    by_profile: dict[str, Row] = {}
    for row in rows:
        by_profile.setdefault(row["profile"], {})[row["adversary"]] = row[key]
    columns: list[Column] = [("", lambda row: row["profile"])]
    columns += [_column(f"{name}: top-1, %", name, 100) for name in adversaries]
    lines = [{"profile": profile, **found} for profile, found in by_profile.items()]
    return table(sorted(lines, key=lambda row: order(row["profile"])), columns)


FINGERPRINTING: list[Column] = [
    ("", lambda row: row["profile"]),
    _column("random forest, %", "forest", 100),
    _column("3 neighbours, %", "neighbours", 100),
    ("guessing, %", lambda row: f"{100 * row['chance']:.1f}"),
]
FLOODING: list[Column] = [
    ("", lambda row: row["profile"]),
    ("honest cells/s", lambda row: f"{row['honest']:,.0f}"),
    _column("passive, %", "passive", 100),
    _column("n-1, %", "n_minus_1", 100),
]
CAPTURE: list[Column] = [
    ("corrupt", lambda row: f"{100 * row['fraction']:.0f}%"),
    _column("one circuit, %", "one_circuit", 100, ".2f"),
    ("formula, %", lambda row: f"{100 * row['one_circuit_formula']:.2f}"),
    _column("one of 50 circuits, %", "ever", 100),
    ("formula, % ", lambda row: f"{100 * row['ever_formula']:.1f}"),
]
INTERSECTION: list[Column] = [
    ("each user there", lambda row: f"{100 * row['online']:.0f}% of the time"),
    _column("visits until linked", "visits_to_link", 1, ".0f"),
    ("formula: visits until one other is left", lambda row: f"{row['visits_formula']:.1f}"),
    _column("left after 5 visits", "left_after_5", 1, ",.0f"),
    ("formula", lambda row: f"{row['left_after_5_formula']:,.0f}"),
]
THEORY: list[Column] = [
    ("", lambda row: row["what"]),
    ("", lambda row: row["parameters"]),
    _column("measured", "measured", 1, ".3f"),
    ("formula", lambda row: f"{row['formula']:.3f}"),
]


def summary(results: Row) -> Row:
    """The last line: top-1 of each adversary for each profile at middle load and the longest time watched."""
    long = results["size"]["long"]
    out: Row = {}
    for row in results["passive"]:
        if row["load"] == "middle" and row["watched"] == long:
            out.setdefault(row["profile"], {})[row["adversary"]] = _value(row["top1"])
    for row in results["active"]:
        out.setdefault(row["profile"], {})[row["adversary"]] = _value(row["top1"])
    for row in results["fingerprinting"]:
        out.setdefault(row["profile"], {})[row["adversary"]] = _value(row["forest"])
    return {k: results[k] for k in ("bench", "quick", "seed", "size", "seconds")} | {"top1": out}


def _value(estimate: Row) -> float | None:
    return None if estimate["value"] is None else round(estimate["value"], 4)
