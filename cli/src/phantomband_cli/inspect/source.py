"""What a command looks at: the directory of a node that runs, or the view that a client has stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import grpc
from phantomband.core.errors import Malformed, UserError
from phantomband.core.netdir.certified import CertifiedView
from phantomband.core.netdir.changes import MAX_CHANGE_BYTES, DirectorySets
from phantomband.core.netdir.genesis import Genesis
from phantomband.core.netdir.genesis_file import load_genesis
from phantomband.core.netdir.replies import Changes, decode_reply_untrusted
from phantomband.core.netdir.requests import GetChanges, encode_request
from phantomband.core.wire import Reader
from phantomband.proto import directory_pb2, directory_pb2_grpc
from phantomband.runtime import unix_path
from phantomband.runtime.settings import ClientConfig, NodeConfig, load

from phantomband_cli.config_check import guess_kind
from phantomband_cli.control import ask_services
from phantomband_cli.testnet.layout import Layout
from phantomband_cli.testnet.state import find, read_state

ANSWER_SECONDS = 5.0
MAX_MESSAGE = [("grpc.max_receive_message_length", 8 * 1024 * 1024)]
"""Views have up to 3.5 MiB."""


@dataclass(frozen=True, slots=True)
class Where:
    """What was meant on the command line. Without anything: the first node of the test network that runs."""

    config: Path | None = None
    directory: Path | None = None
    node: str | None = None
    client: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """What is there to look at."""

    name: str
    sets: DirectorySets
    certified: CertifiedView | None
    status: Any = None
    """DirectoryStatus of directory.proto; None: a client's view."""
    counters: Mapping[str, float] = field(default_factory=dict)
    """What the directory service counts (docs/reference/metrics.md)."""

    @property
    def of_epoch(self) -> Genesis:
        """The directories that certify the view."""
        return self.sets.at(self.certified.view.epoch) if self.certified is not None else self.sets.newest


def look(where: Where) -> Found:
    """Asks the node, or reads the client's files.

    Raises:
        UserError: nothing is there, or it does not answer; says what to do.
    """
    if where.config is not None:
        if guess_kind(where.config) == "client":
            return _of_client(load(ClientConfig, where.config), str(where.config))
        node = load(NodeConfig, where.config)
        return _of_node(node.nickname, node.genesis, node.sockets / "directory.sock")
    layout = find(where.directory)
    if where.client:
        return _of_client(load(ClientConfig, _there(layout.client_config, layout)), "the test network's client")
    name = where.node or "n1"
    return _of_node(name, _there(layout.genesis, layout), node_sockets(layout, name) / "directory.sock")


def node_sockets(layout: Layout, name: str) -> Path:
    """Where the services of a test network's node answer. Raises: UserError: there is no such node."""
    state = read_state(layout)
    if state is None:
        raise UserError(f"no test network runs in {layout.root}. Start one, or give --config FILE")
    if name not in state.options.names:
        raise UserError(f"--node {name}: this network has {', '.join(state.options.names)}")
    return Path(state.run_dir) / name


def _there(path: Path, layout: Layout) -> Path:
    if not path.exists():
        raise UserError(f"no test network runs in {layout.root}. Start one, or give --config FILE")
    return path


def _of_node(name: str, genesis: Path, socket: Path) -> Found:
    sets = DirectorySets(load_genesis(genesis))
    if not socket.exists():
        raise UserError(f"no directory answers at {socket}. Start the node, or say which with --config")
    with grpc.insecure_channel(unix_path.target(socket), options=MAX_MESSAGE) as channel:
        stub = directory_pb2_grpc.DirectoryStub(channel)
        try:
            status = stub.Status(directory_pb2.DirectoryStatusRequest(), timeout=ANSWER_SECONDS)
            _take_changes(stub, sets)
            certified = _newest(stub) if status.view_epoch else None
        except grpc.RpcError:
            raise UserError(f"the directory at {socket} does not answer. Is the node running?") from None
    asked = ask_services({name: socket})[name]
    return Found(name, sets, certified, status, asked.values if asked is not None else {})


def _newest(stub: Any) -> CertifiedView | None:
    call = stub.WatchView(directory_pb2.WatchViewRequest(), timeout=ANSWER_SECONDS)
    try:
        for message in call:
            return CertifiedView.decode_untrusted(bytes(message.view))
    finally:
        call.cancel()
    return None


def _take_changes(stub: Any, sets: DirectorySets) -> None:
    """The changes of the directory set, checked; a directory that knows none has none."""
    request = directory_pb2.PeerRequestMessage(request=encode_request(GetChanges(sets.next_number)))
    reply = decode_reply_untrusted(bytes(stub.PeerRequest(request, timeout=ANSWER_SECONDS).response))
    for change in reply.items if isinstance(reply, Changes) else ():
        sets.offer_untrusted(change)


class _ClientFiles(Protocol):
    genesis: Path | None
    data_dir: Path


def _of_client(config: _ClientFiles, name: str) -> Found:
    genesis = config.genesis if config.genesis is not None else config.data_dir / "genesis.json"
    sets = DirectorySets(load_genesis(genesis))
    read_changes(config.data_dir / "changes", sets)
    try:
        certified = CertifiedView.decode_untrusted((config.data_dir / "view").read_bytes())
    except FileNotFoundError:
        certified = None
    except (OSError, Malformed) as e:
        raise UserError(f"{config.data_dir / 'view'}: cannot be used ({e}). The client will get a new one") from None
    return Found(name, sets, certified)


def read_changes(file: Path, sets: DirectorySets) -> None:
    """Takes the changes of the set that a client has stored; none when there is no file.

    Raises:
        UserError: the file is damaged, or of another network.
    """
    try:
        reader = Reader(file.read_bytes())
        while reader.remaining:
            sets.offer_untrusted(reader.lv32(MAX_CHANGE_BYTES))
    except FileNotFoundError:
        return
    except OSError as e:
        raise UserError(f"{file}: cannot be read ({e.strerror})") from None
    except Malformed as e:
        raise UserError(f"{file}: holds no changes of this network's directories ({e})") from None
