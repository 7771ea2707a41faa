"""What a directory tries: each IP address by itself, with little patience at first, and none that cannot be public."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

from phantomband.core.errors import Refused
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.descriptor import Descriptor, sign_descriptor
from phantomband.runtime.contained import Contained
from phantomband_directory.parts import Contact
from phantomband_directory.reach import FIRST_TRY_SECONDS, TRY_SECONDS, Reach, machine_for


@dataclass
class Addresses:
    """Which answer, which say nothing; all others refuse."""

    there: set[str]
    silent: set[str] = field(default_factory=set)
    asked: list[tuple[float, tuple[str, ...]]] = field(default_factory=list)

    async def reach(self, contact: Contact) -> None:
        hosts = {address.host for address in contact.addresses}
        now = asyncio.get_running_loop().time()
        self.asked.append((now, tuple(sorted(address.transport for address in contact.addresses))))
        assert len(hosts) == 1
        if hosts & self.silent:
            await asyncio.sleep(3600)
        if not hosts & self.there:
            raise Refused("nobody")


def node(network: Any, *addresses: NodeAddress) -> Any:
    key = network.key(9)
    made = Descriptor(
        network_id=network.genesis.network_id, identity=key.public.raw, link_key=b"k" * 32, onion_key=b"o" * 32,
        addresses=addresses, exit_policy="", bandwidth=10**6, family=(), nickname="n", software="x", mix="none",
        published=1_790_000_000, expires=1_790_000_900,
    )  # fmt: skip
    return sign_descriptor(made, key)


def reach_of(network: Any, addresses: Addresses, group: asyncio.TaskGroup, genesis: Any = None) -> Reach:
    contained = Contained()
    contained.start(group)
    genesis = genesis or network.genesis
    machine = machine_for(genesis, network.key(0).node_id)
    return Reach(genesis, machine, addresses, network.now, lambda size: bytes(size), lambda: None, contained)  # type: ignore[arg-type]


def test_each_ip_address_is_proved_by_itself_and_proves_its_transports(network_of: Any, virtual: Any) -> None:
    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            network, world = network_of(1), Addresses({"127.0.0.1", "127.0.0.3"}, {"127.0.0.2"})
            one = node(
                network, NodeAddress("tcp", "127.0.0.1", 1), NodeAddress("obfs4", "127.0.0.1", 2),
                NodeAddress("tcp", "127.0.0.2", 1), NodeAddress("quic", "127.0.0.3", 1),
            )  # fmt: skip
            reach = reach_of(network, world, group)
            reach.note(one)
            task = group.create_task(reach.run())
            await asyncio.sleep(FIRST_TRY_SECONDS + 0.5)
            assert reach.machine.mask(one.descriptor) == 0b1011
            assert sorted(kinds for _, kinds in world.asked) == [("obfs4", "tcp"), ("quic",), ("tcp",)]
            task.cancel()

    virtual(main())


def test_whoever_says_nothing_holds_a_first_try_for_a_moment_and_is_tried_seldom(network_of: Any, virtual: Any) -> None:
    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            network, world = network_of(1), Addresses(set(), {"127.0.0.2"})
            reach = reach_of(network, world, group)
            reach.note(node(network, NodeAddress("tcp", "127.0.0.2", 1)))
            task = group.create_task(reach.run())
            await asyncio.sleep(300)
            begun = [at for at, _ in world.asked]
            assert len(begun) <= 10
            assert FIRST_TRY_SECONDS < begun[1] - begun[0] < FIRST_TRY_SECONDS + TRY_SECONDS
            task.cancel()

    virtual(main())


def test_an_address_that_no_public_node_can_have_is_not_knocked_at(network_of: Any, virtual: Any) -> None:
    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            network, world = network_of(1), Addresses({"20.1.1.1", "10.0.0.1", "2002:7f00:1::"})
            place = NodeAddress("tcp", "20.0.0.1", 1)
            directories = tuple(replace(one, addresses=(place,)) for one in network.genesis.directories)
            public = replace(network.genesis, test_network=False, directories=directories)
            one = node(network, *(NodeAddress("tcp", host, 1) for host in ("20.1.1.1", "10.0.0.1", "2002:7f00:1::")))
            reach = reach_of(network, world, group, public)
            reach.note(one)
            task = group.create_task(reach.run())
            await asyncio.sleep(1)
            assert len(world.asked) == 1
            assert reach.machine.mask(one.descriptor) == 0b001
            task.cancel()

    virtual(main())
