"""A deterministic source of randomness."""

from __future__ import annotations

import random as _random
from collections.abc import Callable

import pytest


@pytest.fixture
def random() -> Callable[[int], bytes]:
    return _random.Random(1).randbytes
