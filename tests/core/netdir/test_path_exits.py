"""Which refusals mean that no exit allows the target, and that any exit serves where only a name is asked."""

from __future__ import annotations

from typing import Any

import pytest
from phantomband.core.errors import Refused
from phantomband.core.netdir.path import NoExitAllows, choose_path

ANY_PORT = 0


def _choose(world: Any, port: int, address: str | None = None, **changes: object) -> Any:
    genesis = world.genesis()
    view = world.view(genesis, [world.entry(i, **(changes if i == 1 else {"flags": 1})) for i in range(4)])
    return choose_path(view, genesis, port, (), world.random("exits"), target_address=address)


@pytest.mark.parametrize(("port", "address"), [(25, None), (25, "192.0.2.1"), (443, "2001:db8::1")])
def test_a_target_that_no_exit_allows(world: Any, port: int, address: str | None) -> None:
    with pytest.raises(NoExitAllows):
        _choose(world, port, address, exit_policy="reject [2001:db8::]/32:*\naccept *:443")


def test_a_view_without_exits_is_another_matter(world: Any) -> None:
    with pytest.raises(Refused, match="no exit in the view") as refused:
        _choose(world, 443, flags=1)
    assert not isinstance(refused.value, NoExitAllows)


def test_any_exit_resolves_names(world: Any) -> None:
    assert _choose(world, ANY_PORT, exit_policy="accept *:22")[-1].nickname == "node1"


def test_the_only_fitting_exit_is_the_guard(world: Any) -> None:
    genesis = world.genesis()
    view = world.view(genesis, [world.entry(i) for i in range(3)])
    exit_ = world.entry(1)
    with pytest.raises(NoExitAllows, match="guard itself"):
        choose_path(view, genesis, 443, {exit_.node_id}, world.random("guard"))
    assert choose_path(view, genesis, 443, {exit_.node_id}, world.random("guard"), hops=1) == (exit_,)
