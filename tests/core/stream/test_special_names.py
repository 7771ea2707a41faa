"""Names that never leave for an exit."""

from __future__ import annotations

import pytest
from phantomband.core.stream.special_names import SPECIAL_USE, is_loopback_name, is_special_use


@pytest.mark.parametrize("domain", sorted(SPECIAL_USE))
def test_a_special_domain_and_all_under_it(domain: str) -> None:
    for name in (domain, f"a.{domain}", f"a.b.{domain}.", f"{domain.upper()}", f"A.{domain.title()}.."):
        assert is_special_use(name)
    assert not is_special_use(f"{domain}.example.com")
    assert not is_special_use(f"x{domain}.de")


@pytest.mark.parametrize(
    "name", ["example.com", "a.example", "a.test", "onion.example", "localhost.example.net", "1.0.0.127.in-addr.arpa",
             "93.184.216.34", "2606:2800::1", "printer", "", ".", "a..b"],
)  # fmt: skip
def test_names_that_are_not_special(name: str) -> None:
    assert not is_special_use(name)


def test_the_machines_own_name() -> None:
    assert all(is_loopback_name(name) for name in ("localhost", "LOCALHOST.", "a.localhost"))
    assert not any(is_loopback_name(name) for name in ("local", "localhost.com", "a.onion", ""))
