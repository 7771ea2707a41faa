"""Twelve nodes in containers, seven of them directories: one view on all, and any two of the seven may fail."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest
from e2e_compose import Network, containers, docker_run, eventually
from phantomband_cli.testnet.options import Options

pytestmark = [pytest.mark.slow, pytest.mark.docker, pytest.mark.e2e, pytest.mark.timeout(900)]

PROJECT = f"phantomband-twelve-{os.getpid()}"
SUBNET = "10.88"
NODES = [f"n{i}" for i in range(1, 13)]
PATIENCE = 240.0

ASK = """
import json, grpc
from phantomband.core.netdir.certified import CertifiedView
from phantomband.proto import directory_pb2 as pb, directory_pb2_grpc as service
from pathlib import Path
socket = next(Path("/run/phantomband").rglob("directory.sock"))
with grpc.insecure_channel(f"unix:{socket}") as channel:
    stub = service.DirectoryStub(channel)
    for message in stub.WatchView(pb.WatchViewRequest(), timeout=20):
        found = CertifiedView.decode_untrusted(bytes(message.view))
        names = sorted(entry.nickname for entry in found.view.entries)
        print(json.dumps([found.view.epoch, found.digest.hex(), names, len(found.signatures)]))
        break
"""


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    options = Options(nodes=12, exits=4, directories=7)
    with containers(PROJECT, options, SUBNET, tmp_path_factory.mktemp("compose")) as running:
        yield running


def view(network: Network, node: str) -> tuple[int, str, list[str], int]:
    """(epoch, digest, nicknames, signatures) of the newest view that a node's directory holds."""
    return tuple(json.loads(network.python(f"{node}-directory", ASK)))


def agree(network: Network, nodes: list[str], after: int) -> bool:
    """Whether these nodes have the same view of one epoch after `after`."""
    found = [view(network, node) for node in nodes]
    return len({(epoch, digest) for epoch, digest, _, _ in found}) == 1 and found[0][0] > after


def test_one_certified_view_on_all_twelve(network: Network) -> None:
    def serving() -> bool:
        state = network.state()
        return all("(healthy)" in state.get(f"{node}-directory", "") for node in NODES)

    eventually("all directories have a view", PATIENCE, serving)
    eventually("it is the same", PATIENCE, lambda: agree(network, NODES, 0))
    _, _, names, signatures = view(network, "n12")
    assert names == sorted(NODES)
    assert signatures >= 5
    eventually("a page comes", PATIENCE, lambda: b"three relays" in network.fetch("/"))


def test_two_directories_that_are_paused_and_killed_stop_nothing(network: Network) -> None:
    before = view(network, "n1")[0]
    network_ids = [network.container(f"{node}-directory") for node in ("n6", "n7")]
    docker_run("docker", "pause", network_ids[0])
    docker_run("docker", "kill", network_ids[1])
    try:
        others = [node for node in NODES if node not in ("n6", "n7")]
        eventually("the others go on", PATIENCE, lambda: agree(network, others, before + 1))
        assert b"three relays" in network.fetch("/")
    finally:
        docker_run("docker", "unpause", network_ids[0])
        docker_run("docker", "start", network_ids[1])
    after = view(network, "n1")[0]
    eventually("all are together again", PATIENCE, lambda: agree(network, NODES, after))
