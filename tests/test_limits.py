"""The bounds of each service add up to less than its memory limit: in compose, on Kubernetes, under systemd.

docs/explanation/limits.md has the table; here its sums are worked out from the same constants that the code uses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from phantomband.core.cell import CELL_BYTES
from phantomband.core.circuit.relay_types import RelayLimits
from phantomband.core.handshake.replay import DEFAULT_LIMIT
from phantomband.core.netdir.certified import MAX_CERTIFIED_BYTES
from phantomband.core.netdir.descriptor import MAX_DESCRIPTOR_BYTES
from phantomband.core.netdir.newcomers import MAX_NEWCOMER_BYTES
from phantomband.core.netdir.pool import MAX_CONVICTED, MAX_POOL_BYTES
from phantomband.runtime.egress import UNCHARGED_BYTES
from phantomband.runtime.lane.base import HIGH_WATER
from phantomband.runtime.lane.outgoing import MAX_BUFFERED
from phantomband.runtime.memory_limit import HELD_SHARE, SMALLEST_BYTES
from phantomband.runtime.settings import NodeConfig
from phantomband.runtime.settings.gateway import GatewaySection
from phantomband.runtime.settings.node import RelaySection
from phantomband.transports.doh.tunnel import EARLY_BYTES
from phantomband_directory.table_driver import MAX_RECORDS
from phantomband_directory.view_archive import KEPT, KEPT_SMALL, SMALL_BYTES
from phantomband_gateway.service import PAUSE_ALL_BYTES
from phantomband_mixer.service import OUTPUT_SHARE, most_cells
from phantomband_relay.exit import CONNECTION_BYTES
from phantomband_relay.names import ALL_LOOKUPS
from phantomband_relay.service import OUTBOX_CELLS

ROOT = Path(__file__).resolve().parents[1]
MIB = 1024 * 1024
DOCUMENT = (ROOT / "docs" / "explanation" / "limits.md").read_text()

BASE = {"gateway": 85, "relay": 85, "mixer": 70, "directory": 85}
"""MiB of a service that carries nothing: interpreter, gRPC, code (measured: 60 to 78 of anonymous memory)."""

WORKER = 40 * MIB
"""The relay's handshake worker, a fork: what it has for itself."""

REPLAY_ENTRY = 72
"""Bytes of one entry of a replay memory in memory (measured: 18 MiB for 2^18)."""

HANDSHAKE = 2048
LOOKUP = 10 * 1024


def held(limit: int) -> int:
    """As `memory_limit.held_bytes`."""
    return max(SMALLEST_BYTES, limit // HELD_SHARE)


def gateway(limit: int) -> dict[str, int]:
    links = min(NodeConfig.model_fields["gateway"].default.max_links, held(limit) // UNCHARGED_BYTES)
    return {
        "base": BASE["gateway"] * MIB,
        "counted: egress queues, half directory messages, connections": held(limit),
        "connections' buffers, not counted": links * UNCHARGED_BYTES,
        "lane to the relay": PAUSE_ALL_BYTES + HIGH_WATER,
        "doh, before its turn": EARLY_BYTES,
        "replay memory": DEFAULT_LIMIT * REPLAY_ENTRY,
    }


def relay(limit: int) -> dict[str, int]:
    limits = RelayLimits()
    return {
        "base": BASE["relay"] * MIB,
        "worker": WORKER,
        "counted: exit streams": held(limit),
        "cells for the mixer": OUTBOX_CELLS * CELL_BYTES + HIGH_WATER,
        "handshakes and EXTENDs that wait": (limits.pending_handshakes + 8 * limits.extends_per_link) * HANDSHAKE,
        "lookups": ALL_LOOKUPS * LOOKUP,
        "replay memory": 3 * DEFAULT_LIMIT * REPLAY_ENTRY,
    }


def mixer(limit: int) -> dict[str, int]:
    cells = most_cells(NodeConfig.model_fields["mixer"].default.max_cells, held(limit))
    return {
        "base": BASE["mixer"] * MIB,
        "held by the strategy": cells * CELL_BYTES,
        "released, for the gateway": int((1 + OUTPUT_SHARE) * cells) * CELL_BYTES,
        "lane to the gateway": HIGH_WATER,
    }


def directory(_: int) -> dict[str, int]:
    pool = MAX_POOL_BYTES + MAX_NEWCOMER_BYTES + MAX_CONVICTED * MAX_DESCRIPTOR_BYTES // 4
    return {
        "base": BASE["directory"] * MIB,
        "pool, twice its encoded bytes": 2 * pool,
        "table": MAX_RECORDS * 5600,
        "views": max(KEPT * MAX_CERTIFIED_BYTES, KEPT_SMALL * SMALL_BYTES),
    }


SERVICES = {"gateway": gateway, "relay": relay, "mixer": mixer, "directory": directory}
UNITS = {"m": MIB, "Mi": MIB, "Gi": 1024 * MIB, "G": 1024 * MIB}


def size(text: str) -> int:
    match = re.fullmatch(r"(\d+)(m|Mi|Gi|G)", text)
    assert match is not None, text
    return int(match[1]) * UNITS[match[2]]


@dataclass(frozen=True)
class Limit:
    where: str
    service: str
    size: int


def limits() -> list[Limit]:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    found = [Limit("compose", name, size(compose[f"x-{name}"]["mem_limit"])) for name in SERVICES]
    for document in yaml.safe_load_all((ROOT / "deploy" / "kubernetes" / "statefulset.yaml").read_text()):
        for container in document["spec"]["template"]["spec"]["containers"]:
            if container["name"] in SERVICES:
                text = container["resources"]["limits"]["memory"]
                found.append(Limit("kubernetes", container["name"], size(text)))
    return found


def test_every_service_has_a_limit_in_compose_and_kubernetes() -> None:
    assert {(each.where, each.service) for each in limits()} == {
        (where, name) for where in ("compose", "kubernetes") for name in SERVICES
    }


@pytest.mark.parametrize("limit", limits(), ids=lambda limit: f"{limit.where}-{limit.service}")
def test_what_a_service_may_hold_fits_its_limit(limit: Limit) -> None:
    parts = SERVICES[limit.service](limit.size)
    assert sum(parts.values()) < limit.size, parts


def test_all_services_of_a_node_together_fit_systemds_limit() -> None:
    text = next((ROOT / "deploy" / "systemd").glob("*.service")).read_text()
    whole = size(re.findall(r"^MemoryMax=(\S+)$", text, re.MULTILINE)[0])
    parts = {f"{name}: {what}": part for name, of in SERVICES.items() for what, part in of(whole).items()}
    assert sum(parts.values()) < whole, parts


def test_connections_that_an_exit_may_have_leave_room_in_what_is_counted() -> None:
    most = RelaySection().max_exit_connections
    for limit in limits():
        if limit.service == "relay":
            free = held(limit.size) - held(limit.size) // 8
            assert min(most, free // CONNECTION_BYTES) >= 1500, "an exit of a container is still of use"


def test_a_gateway_of_a_container_still_takes_many_links() -> None:
    for limit in limits():
        if limit.service == "gateway":
            assert min(GatewaySection().max_links, held(limit.size) // UNCHARGED_BYTES) >= 1000


def test_a_lane_that_is_stuck_is_broken_off_before_it_takes_the_rest() -> None:
    assert MAX_BUFFERED >= PAUSE_ALL_BYTES + HIGH_WATER
    assert OUTBOX_CELLS * CELL_BYTES <= MAX_BUFFERED


@pytest.mark.parametrize("name", re.findall(r"^\| .*? \| `([A-Z_]+)`", DOCUMENT, re.MULTILINE))
def test_every_constant_that_the_page_names_is_in_the_file_that_it_names(name: str) -> None:
    row = next(line for line in DOCUMENT.splitlines() if f"`{name}`" in line)
    files = re.findall(r"`([\w/]+\.py)`", row)
    assert files, row
    for file in files:
        paths = [p for base in ("common/src", "services", "cli/src") for p in (ROOT / base).rglob(Path(file).name)]
        paths = [p for p in paths if str(p).endswith(file)]
        assert any(re.search(rf"\b{name}\b", p.read_text()) for p in paths), f"{name} is not in {file}"
