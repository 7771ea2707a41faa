"""All addresses that a node listens on by one transport have the same parameters, or the operator is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from phantomband.core.errors import UserError
from phantomband.transports.base import Transport
from phantomband.transports.managed.program import Command
from phantomband.transports.managed.transport import Programs
from phantomband.transports.registry import make

OTHERS = {
    "tls": {"sni": "www.example.org"},
    "quic": {"sni": "www.example.org"},
    "websocket": {"plain": "yes"},
    "obfs4": {"iat_mode": "1"},
    "doh": {"zone": "t.example.org", "dns": "127.0.0.1:5300"},
    "webtunnel": {"url": "https://www.example.org/path"},
}
"""Parameters of a second address that the first has not."""


def made(name: str, folder: Path) -> Transport:
    if name != "webtunnel":
        return make(name)
    found = Programs([Command.of((name,), "/bin/true", ())], folder).of(name)
    assert found is not None
    return found


@pytest.mark.parametrize("name", OTHERS)
def test_a_second_address_with_other_parameters_is_refused(name: str, tmp_path: Path) -> None:
    for first, second in (({}, OTHERS[name]), (OTHERS[name], {})):
        transport = made(name, tmp_path)
        transport.configure(tmp_path, first)
        transport.configure(tmp_path, dict(first))
        before = dict(transport.parameters())
        with pytest.raises(UserError, match=f"Give all its {name} addresses the same"):
            transport.configure(tmp_path, second)
        assert transport.parameters() == before
