"""What a node's descriptor says of its mixing: the strategy and its parameters, as one line of text.

    none | threshold:CELLS:MAX_WAIT | timed:INTERVAL | pool:INTERVAL:MINIMUM:FRACTION:MAX_WAIT
    | poisson:MEAN_DELAY | slots:SLOT

Times in seconds. `text` writes it, `parse_untrusted` reads it; nothing proves what a node says
(docs/reference/wire-format.md).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from phantomband.core.errors import Malformed

MAX_BYTES = 128
"""Longest text: a descriptor's limit for it (core/netdir/descriptor.py)."""

MAX_SECONDS = 60.0
MAX_COUNT = 2**31
"""Largest time and number of cells that are believed: the configuration has the same bound for times."""

PARAMETERS: dict[str, tuple[str, ...]] = {
    "none": (),
    "threshold": ("threshold", "max_wait"),
    "timed": ("interval",),
    "pool": ("interval", "pool_minimum", "pool_fraction", "max_wait"),
    "poisson": ("mean_delay",),
    "slots": ("slot",),
}
"""Each strategy's parameters in their order, by their names in the configuration's `mixer` section."""

_COUNTS = frozenset(("threshold", "pool_minimum"))
_COUNT = re.compile(r"[0-9]{1,10}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?(e[+-]?[0-9]{1,3})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Published:
    """What a node says of its mixing."""

    kind: str
    """The strategy: a key of `PARAMETERS`."""
    mean_delay: float
    """Seconds that a lone cell waits on average at this hop, when the load is low; see `_mean_delay`."""
    text: str
    values: tuple[float, ...] = ()
    """The parameters, in the order of `PARAMETERS`."""


def text(kind: str, parameters: Mapping[str, float]) -> str:
    """The line for a strategy.

    Args:
        parameters: values by name, at least those that the strategy has.
    """
    return ":".join([kind, *(str(parameters[name]) for name in PARAMETERS[kind])])


def parse_untrusted(line: str) -> Published:
    """What a line says.

    Raises:
        Malformed: over 128 bytes, an unknown strategy, or parameters that it cannot have.
    """
    if len(line) > MAX_BYTES:
        raise Malformed(f"a mix strategy of {len(line)} bytes is over its limit of {MAX_BYTES}")
    kind, *fields = line.split(":")
    names = PARAMETERS.get(kind)
    if names is None:
        raise Malformed("an unknown mix strategy")
    if len(fields) != len(names):
        raise Malformed(f"the mix strategy {kind} has {len(names)} parameters, not {len(fields)}")
    values = tuple(_value_untrusted(name, field) for name, field in zip(names, fields, strict=True))
    return Published(kind, _mean_delay(kind, dict(zip(names, values, strict=True))), line, values)


def _value_untrusted(name: str, field: str) -> float:
    if not (_COUNT if name in _COUNTS else _NUMBER).fullmatch(field):
        raise Malformed(f"the mix parameter {name} is no number")
    value = int(field) if name in _COUNTS else float(field)
    low, high = {"threshold": (2, MAX_COUNT), "pool_minimum": (0, MAX_COUNT), "pool_fraction": (0.0, 1.0)}.get(
        name, (0.0, MAX_SECONDS)
    )
    if not low <= value <= high or (not value and name != "pool_minimum"):
        raise Malformed(f"the mix parameter {name} is out of its range")
    return value


def _mean_delay(kind: str, values: Mapping[str, float]) -> float:
    """Seconds that a lone cell waits on average when almost nothing else comes (docs/explanation/mixing.md).

    Under load `threshold` and `pool` delay less. `poisson` delays the later cells of a burst more, and `slots` what
    queues behind other cells of its circuit.
    """
    match kind:
        case "timed":
            return values["interval"] / 2
        case "threshold":
            return values["max_wait"]
        case "pool" if values["pool_minimum"]:
            return values["max_wait"]
        case "pool":
            further = values["interval"] * (1 / values["pool_fraction"] - 1)
            return min(values["max_wait"], values["interval"] / 2 + further)
        case "poisson":
            return values["mean_delay"]
        case "slots":
            return values["slot"] / 2
        case _:
            return 0.0
