"""Real identities, few and made once: keys and signatures take time."""

from __future__ import annotations

import random

import pytest
from phantomband.core.crypto.sign import IdentityKey


@pytest.fixture(scope="session")
def keys() -> list[IdentityKey]:
    return [IdentityKey.generate(random.Random(seed).randbytes) for seed in range(6)]
