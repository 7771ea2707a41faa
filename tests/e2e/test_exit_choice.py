"""The client takes an exit whose policy allows the target; where none does, the application is told."""

from __future__ import annotations

import pytest
from e2e_net import Network, until
from e2e_net import network as start
from e2e_servers import echo, tcp
from e2e_socks import Address, SocksFailed, connect, receive, resolve

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

USERS = 4
"""Each has a circuit of its own, so each makes a choice of its own."""


def _exits(network: Network, host: str, target: Address) -> set[str]:
    """The last hops of all circuits that carry streams to a target."""
    open_ = [connect(network.socks, host, target.port, f"user{i}") for i in range(USERS)]
    try:
        for s in open_:
            s.sendall(b"?")
            assert receive(s, 1) == b"?"
        return {c["hops"][-1]["nickname"] for c in network.circuits() if c["streams"]}
    finally:
        for s in open_:
            s.close()


def _wait_quiet(network: Network) -> None:
    until("no stream is open", lambda: network.client()["streams_open"] == 0)


def test_only_exits_that_allow_the_target_are_taken() -> None:
    """Two exits for each target, because one of them may be the client's guard."""
    with tcp(echo) as one, tcp(echo) as two, tcp(echo) as nowhere, tcp(echo, "127.88.1.1") as far:
        policies = {
            ("n3", "n4"): [f"accept *:{one.port}"],
            ("n5", "n6"): [f"accept *:{two.port}", "accept *:443"],
            ("n7", "n8"): [f"reject *:{one.port}", "accept 127.88.0.0/16:*"],
        }
        changes = {name: {"relay": {"exit_policy": policy}} for names, policy in policies.items() for name in names}
        with start("--nodes", "8", "--exits", "6", changes=changes) as network:
            for host, target, allowed in (
                ("127.0.0.1", one, {"n3", "n4"}),
                ("localhost", one, {"n3", "n4"}),
                ("127.0.0.1", two, {"n5", "n6"}),
                ("127.88.1.1", far, {"n7", "n8"}),
            ):
                _wait_quiet(network)
                assert _exits(network, host, target) <= allowed, f"{host}: {policies}"
            for host in ("127.0.0.1", "127.66.1.1"):
                with pytest.raises(SocksFailed) as failed:
                    connect(network.socks, host, nowhere.port).close()
                assert failed.value.code == 2


@pytest.mark.parametrize("time", range(4))
def test_the_only_exit_is_no_guard(time: int) -> None:
    """Else there would be no path; guards are drawn at random, hence more than once."""
    with tcp(echo) as target, start("--nodes", "3", "--exits", "1") as network:
        assert _exits(network, "localhost", target) == {"n3"}


def test_a_network_whose_exits_allow_one_unusual_port() -> None:
    """The client builds circuits ahead for port 443; none here allows it."""
    with tcp(echo) as target:
        changes = {"exits": {"relay": {"exit_policy": [f"accept *:{target.port}"]}}}
        with start("--nodes", "3", "--exits", "1", changes=changes) as network:
            assert _exits(network, "localhost", target) == {"n3"}
            assert resolve(network.socks, "localhost") in ("127.0.0.1", "::1")
