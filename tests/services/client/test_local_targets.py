"""What means something here only is told to no exit."""

from __future__ import annotations

import pytest
from phantomband.core.stream.messages import target
from phantomband_client.local_targets import stays_here
from phantomband_client.service import _shown


@pytest.mark.parametrize(
    ("host", "public", "test_network"),
    [
        ("example.com", False, False),
        ("8.8.8.8", False, False),
        ("2606:4700::1", False, False),
        ("a.onion", True, True),
        ("printer.local", True, True),
        ("DB.Internal.", True, True),
        ("localhost", True, False),
        ("a.localhost", True, False),
        ("127.0.0.1", True, False),
        ("192.168.1.1", True, False),
        ("::1", True, False),
        ("fe80::1%eth0", True, False),
        ("::ffff:10.0.0.1", True, False),
    ],
)
def test_a_target_stays_here(host: str, *, public: bool, test_network: bool) -> None:
    where = target(host, 443)
    assert stays_here(where, test_network=False) is public
    assert stays_here(where, test_network=True) is test_network


def test_a_proxys_address_is_shown_as_programs_take_it() -> None:
    assert (_shown("127.0.0.1", 9150), _shown("::1", 9150)) == ("127.0.0.1:9150", "[::1]:9150")
