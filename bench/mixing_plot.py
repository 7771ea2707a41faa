"""Figures of bench/mixing.py and bench/profiles.py as SVG: the same figures give the same file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

mpl.rcParams["svg.hashsalt"] = "phantomband"

Bars = tuple[str, dict[str, float], bool]
"""What is shown, the value of each name, whether the axis is logarithmic."""


def bars(panels: list[Bars], file: Path) -> None:
    """One panel beside the other, a bar for each name."""
    figure, axes = plt.subplots(1, len(panels), figsize=(4.2 * len(panels), 3.2))
    for axis, (title, values, logarithmic) in zip(axes, panels, strict=True):
        axis.bar(list(values), list(values.values()), color="#4477aa", log=logarithmic)
        axis.set_title(title, fontsize=10)
        axis.tick_params(axis="x", rotation=40)
    figure.tight_layout()
    figure.savefig(file, format="svg", metadata={"Date": None})
    plt.close(figure)


def column(rows: dict[str, dict[str, Any]], key: str) -> dict[str, float]:
    """One figure of each row."""
    return {name: row[key] for name, row in rows.items()}
