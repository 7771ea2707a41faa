"""`testnet status`: what runs, from the state file and from what the services say of themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from phantomband_cli.testnet.layout import Layout
from phantomband_cli.testnet.state import ServiceState, State, read_state, supervisor_of

NOT_RUNNING = {"running": False}


def gather(layout: Layout) -> dict[str, Any]:
    """Everything known, as JSON values.

    Returns: `{"running": false}`, or

        {"running": true, "phase", "dir", "run_dir", "socks", "http", "options",
         "client": SERVICE | {"bootstrap", "circuits_open", ...},
         "nodes": [{"name", "exit", "directory", "services": [SERVICE]}]}
        SERVICE = {"name", "service", "pid", "state", "restarts", "log", "socket",
                   "status": {name: number} | null}

        A service's state is its own word (starting, serving, draining) if it answers, else the supervisor's
        (running, waiting, failing).
    """
    supervisor = supervisor_of(layout)
    state = read_state(layout) if supervisor else None
    if supervisor is None:
        return dict(NOT_RUNNING)
    if state is None:
        return {"running": True, "phase": "starting", "dir": str(layout.root), "nodes": [], "client": None}
    return _describe(layout, state)


def _describe(layout: Layout, state: State) -> dict[str, Any]:
    from phantomband_cli.control import ask_services

    answers = ask_services({s.name: state.socket_of(s) for s in state.services})
    described = {s.name: _service(state, s, answers[s.name]) for s in state.services}
    options = state.options
    nodes = [
        {
            "name": name,
            "exit": options.is_exit(i),
            "directory": options.is_directory(i),
            "services": [described[s.name] for s in state.services if s.node == name],
        }
        for i, name in enumerate(options.names)
    ]
    return {
        "running": True,
        "phase": state.phase,
        "dir": str(layout.root),
        "run_dir": state.run_dir,
        "socks": state.socks,
        "http": state.http,
        "options": options.to_json(),
        "nodes": nodes,
        "client": described["client.client"] | _client(state),
    }


def _service(state: State, service: ServiceState, answer: Any) -> dict[str, Any]:
    return {
        "name": service.name,
        "service": service.service,
        "pid": service.pid,
        "state": answer.state if answer and service.pid else service.state,
        "restarts": service.restarts,
        "log": service.log,
        "socket": str(state.socket_of(service)),
        "status": dict(answer.values) if answer else None,
    }


def _client(state: State) -> dict[str, Any]:
    from phantomband_cli.control import ClientControl, NoAnswer, status_json

    try:
        with ClientControl(Path(state.run_dir) / "client" / "client.sock") as client:
            return status_json(client.status())
    except NoAnswer:
        return {"bootstrap": None}
