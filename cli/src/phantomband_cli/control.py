"""Asking the client and the services how they are, over their local gRPC sockets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
from phantomband.proto import client_pb2, client_pb2_grpc, node_pb2, node_pb2_grpc
from phantomband.runtime import unix_path

_OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 30),
    ("grpc.min_reconnect_backoff_ms", 30),
    ("grpc.max_reconnect_backoff_ms", 100),
]
"""A socket that is not there yet is tried again soon."""


class NoAnswer(Exception):
    """Nobody answers on a socket, or not in time."""


class ClientControl:
    """The control interface of a client."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._channel = grpc.insecure_channel(unix_path.target(socket), options=_OPTIONS)
        self._stub = client_pb2_grpc.ClientStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, t: TracebackType | None) -> None:
        self._channel.close()

    def status(self, timeout: float = 3.0) -> Any:
        """ClientStatus of client.proto.

        Raises:
            NoAnswer: there is no client, or it does not answer.
        """
        return self._ask(self._stub.Status, client_pb2.ClientStatusRequest(), timeout)

    def circuits(self, timeout: float = 3.0) -> Any:
        """CircuitsReply of client.proto. Raises: NoAnswer."""
        return self._ask(self._stub.Circuits, client_pb2.CircuitsRequest(), timeout)

    def new_identity(self, timeout: float = 3.0) -> Any:
        """NewIdentityReply of client.proto. Raises: NoAnswer."""
        return self._ask(self._stub.NewIdentity, client_pb2.NewIdentityRequest(), timeout)

    def transports(self, timeout: float = 3.0) -> Any:
        """TransportsReply of client.proto. Raises: NoAnswer."""
        return self._ask(self._stub.Transports, client_pb2.TransportsRequest(), timeout)

    def _ask(self, call: Any, request: Any, timeout: float) -> Any:
        if not self._socket.exists():
            raise NoAnswer(str(self._socket))
        try:
            return call(request, timeout=timeout)
        except grpc.RpcError as e:
            raise NoAnswer(str(self._socket)) from e


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """What a service says of itself."""

    state: str
    values: Mapping[str, float]


def ask_services(sockets: Mapping[str, Path], timeout: float = 2.0) -> dict[str, ServiceStatus | None]:
    """The answers of all services, asked at the same time; None for one that does not answer."""
    channels = {
        name: grpc.insecure_channel(unix_path.target(path), options=_OPTIONS)
        for name, path in sockets.items()
        if path.exists()
    }
    asked = {
        name: node_pb2_grpc.StatusStub(channel).Get.future(node_pb2.GetStatusRequest(), timeout=timeout)
        for name, channel in channels.items()
    }
    answers: dict[str, ServiceStatus | None] = dict.fromkeys(sockets)
    for name, future in asked.items():
        try:
            reply = future.result()
            answers[name] = ServiceStatus(reply.state, dict(reply.values))
        except grpc.RpcError:
            pass
    for channel in channels.values():
        channel.close()
    return answers


def status_json(status: Any) -> dict[str, Any]:
    """ClientStatus as JSON values."""
    return {
        "bootstrap": {"percent": status.bootstrap.percent, "phase": status.bootstrap.phase},
        "socks_address": status.socks_address,
        "http_address": status.http_address or None,
        "circuits_open": status.circuits_open,
        "streams_open": status.streams_open,
        "bytes_in": status.bytes_in,
        "bytes_out": status.bytes_out,
        "view_epoch": status.view_epoch,
        "view_nodes": status.view_nodes,
        "view_freshness": status.view_freshness,
        "view_age_epochs": status.view_age_epochs,
        "transport": status.transport,
        "profile": status.profile,
        "loops": {"returned": status.loops_returned, "lost": status.loops_lost},
        "padding_cells": status.padding_cells,
        "trouble": status.trouble or None,
    }


def circuit_json(circuit: Any) -> dict[str, Any]:
    """CircuitDescription as JSON values."""
    return {
        "id": circuit.id,
        "state": circuit.state,
        "profile": circuit.profile,
        "hops": [{"node_id": hop.node_id, "nickname": hop.nickname} for hop in circuit.hops],
        "streams": circuit.streams,
        "age_seconds": round(circuit.age_seconds, 3),
        "round_trip_seconds": round(circuit.round_trip_seconds, 6),
        "window_cells": circuit.window_cells,
    }


def transports_json(reply: Any) -> dict[str, Any]:
    """TransportsReply as JSON values."""
    return {
        "transports": [
            {
                "name": t.name,
                "state": _transport_state(t),
                "links": t.links,
                "streams": t.streams,
                "worked": t.worked or None,
                "failed": t.failed or None,
                "failures": t.failures,
                "connect_seconds": round(t.connect_seconds, 3) or None,
            }
            for t in reply.transports
        ],
        "events": [{"at": e.at, "transport": e.transport, "what": e.what} for e in reply.events],
        "bridges": reply.bridges,
    }


def _transport_state(transport: Any) -> str:
    if transport.links:
        return "in use"
    if transport.pausing:
        return "failed"
    if not transport.worked and not transport.failed:
        return "not tried"
    return "worked" if transport.worked > transport.failed else "to be tried again"
