"""`directory status` and `directory members`: how a directory and its view stand, and whom the view has."""

from __future__ import annotations

from typing import Any

from phantomband.core.ids import NodeId
from phantomband.core.netdir.certified import CertifiedView, freshness
from phantomband.core.netdir.genesis import Genesis
from phantomband.core.netdir.view import NO_DIGEST, Flags, ViewEntry
from phantomband.proto import directory_pb2

from phantomband_cli.inspect.source import Found

_SPREAD = (
    "table_contacts",
    "table_records",
    "gossip_rounds",
    "gossip_bytes",
    "reached",
    "unreached",
    "convicted",
)
"""Of table, gossip and tries (directory.proto)."""

_FLAGS = (Flags.GUARD, Flags.EXIT, Flags.FAST, Flags.DIRECTORY)


def status_json(found: Found, now: float) -> dict[str, Any]:
    """Everything known, as JSON values; what a client's view cannot say is null."""
    clock, status = found.sets.clock, found.status
    epoch = clock.epoch_at(now)
    return {
        "of": found.name,
        "network_id": found.sets.network_id.hex(),
        "node_id": str(NodeId(bytes(status.node_id))) if status is not None else None,
        "voter": status.voter if status is not None else None,
        "clock": {"now": round(now, 3), "epoch": epoch, "epoch_ends": clock.end(epoch), "length": clock.length(epoch)},
        "view": _view_json(found.certified, found, now) if found.certified is not None else None,
        "quorum": found.of_epoch.quorum,
        "directories": directories_json(found.of_epoch, found.certified),
        "descriptors": status.descriptors if status is not None else None,
        "evidence": status.evidence if status is not None else None,
        "measured": status.measured if status is not None else None,
        "bad": [str(NodeId(bytes(node))) for node in status.bad] if status is not None else None,
        "spread": {name: getattr(status, name) for name in _SPREAD} if status is not None else None,
        "trouble": _trouble(status),
        "counters": dict(found.counters),
    }


def _trouble(status: directory_pb2.DirectoryStatus | None) -> dict[str, str | None]:
    """What does not work, by kind; null where all is well."""
    said = {name: "" if status is None else getattr(status, name) for name in ("clock", "stamp", "storage")}
    return {name: text if text not in ("", "ok") else None for name, text in said.items()}


def _view_json(certified: CertifiedView, found: Found, now: float) -> dict[str, Any]:
    view = certified.view
    return {
        "epoch": view.epoch,
        "digest": certified.digest.hex(),
        "age_seconds": round(now - view.valid_after, 3),
        "freshness": freshness(view, found.sets.clock, now).value,
        "relays": len(view.entries),
        "bytes": len(certified.view_bytes),
        "difficulty_bits": view.bits,
        "pending_change": view.pending.hex() if view.pending != NO_DIGEST else None,
    }


def directories_json(genesis: Genesis, certified: CertifiedView | None) -> list[dict[str, Any]]:
    """The set that certifies, and who of it signed the view."""
    signed = {index for index, _ in certified.signatures} if certified is not None else set()
    return [
        {"index": index, "nickname": d.nickname, "node_id": str(d.node_id), "signed": index in signed}
        for index, d in enumerate(genesis.directories)
    ]


def members_json(found: Found) -> dict[str, Any]:
    """The relays of the view, heaviest first, and the directories."""
    certified = found.certified
    entries = certified.view.entries if certified is not None else ()
    ordered = sorted(entries, key=lambda e: (-e.weight, e.node_id))
    return {
        "of": found.name,
        "view_epoch": certified.view.epoch if certified is not None else 0,
        "relays": [_relay_json(entry) for entry in ordered],
        "directories": directories_json(found.of_epoch, certified),
    }


def _relay_json(entry: ViewEntry) -> dict[str, Any]:
    return {
        "node_id": str(entry.node_id),
        "nickname": entry.nickname,
        "flags": [str(flag.name).lower() for flag in _FLAGS if entry.has(flag)],
        "weight": entry.weight,
        "since": entry.since or None,
        "transports": sorted({address.transport for address in entry.addresses}),
        "family": entry.family.hex() or None,
        "exit_policy": entry.exit_policy.split("\n") if entry.exit_policy else [],
        "mix": entry.mix,
        "padding": entry.padding,
    }
