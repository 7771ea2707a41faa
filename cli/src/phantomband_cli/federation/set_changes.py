"""Changes of the set of directories: proposed by anyone, signed by the operators of a quorum, handed to one directory.

The file holds a change as core/netdir/changes.py encodes it, with the signatures that it has so far. Each operator
signs a copy or the same file; copies are put together when they are handed in.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from pathlib import Path

from phantomband.core.errors import Malformed, UserError
from phantomband.core.ids import NodeId
from phantomband.core.netdir.changes import DirectorySets, SetChange, apply, propose
from phantomband.core.netdir.genesis import Genesis
from phantomband.core.netdir.genesis_file import load_genesis
from phantomband.core.netdir.replies import Accepted, RefusedReply, Reply, decode_reply_untrusted
from phantomband.core.netdir.requests import SubmitChange, encode_request
from phantomband.proto import directory_pb2, directory_pb2_grpc
from phantomband.runtime import unix_path
from phantomband.runtime.keystore import write_whole
from phantomband.runtime.settings import NodeConfig
from phantomband_directory.store import FileStore

from phantomband_cli.directory_card import identity_of
from phantomband_cli.federation.founding import SYSTEM_RANDOM, load_card

MAX_FILE_BYTES = 1024 * 1024
CALL_SECONDS = 15.0


def known_sets(config: NodeConfig) -> DirectorySets:
    """The sets as the node knows them: its genesis file, and the changes that its directory has kept.

    Raises:
        UserError: a file cannot be used.
    """
    genesis = load_genesis(config.genesis)
    sets = DirectorySets(genesis)
    state = config.data_dir / "directory" / "state"
    for raw in FileStore(state, genesis.network_id).load_changes() if state.exists() else ():
        sets.offer_untrusted(raw)
    return sets


def make(config: NodeConfig, removed: Sequence[str], added: Sequence[Path], epochs: int, out: Path, now: float) -> str:
    """Writes an unsigned change that acts after `epochs` epochs. Returns: what it does, for people.

    Raises:
        UserError: it cannot be.
    """
    sets = known_sets(config)
    acts_at = max(sets.clock.epoch_at(now), 0) + epochs
    notice = sets.genesis.terms.notice_epochs
    if epochs <= notice:
        raise UserError(f"--epochs {epochs}: this network asks for more than {notice}, and signing takes time too.")
    try:
        gone = [_member(sets.newest, text) for text in removed]
        change = propose(sets.newest, sets.next_number, acts_at, gone, [load_card(path) for path in added])
    except Malformed as e:
        raise UserError(f"This is no change: {e}.") from e
    save(change, out)
    return summary(change, sets)


def sign(config: NodeConfig, file: Path) -> str:
    """Adds this node's signature to the file. Returns: what the change does.

    Raises:
        UserError: the node is no directory of the set, or the change does not follow what the node knows.
    """
    sets, change = known_sets(config), load(file)
    if change.network_id != sets.network_id or change.old_set != sets.newest.set_id:
        raise UserError(f"{file}: the change is of another network, or does not follow the newest set known here.")
    key = identity_of(config.data_dir, SYSTEM_RANDOM)
    index = sets.newest.index_of(key.node_id)
    if index is None:
        raise UserError("This node is no directory of the set: it has nothing to sign.")
    apply(change, sets.newest)
    change = change.signed_by(index, key)
    save(change, file)
    return summary(change, sets)


def merge(files: Sequence[Path]) -> SetChange:
    """One change with the signatures of all copies.

    Raises:
        UserError: they differ, or cannot be read.
    """
    changes = [load(path) for path in files]
    whole = changes[0]
    for other in changes[1:]:
        whole = whole.merged(other)
    return whole


def submit(config: NodeConfig, files: Sequence[Path]) -> str:
    """Hands the change to this node's directory, which tells all others. Returns: what was done.

    Raises:
        UserError: too few signatures, or the directory does not run or refuses it.
    """
    sets, change = known_sets(config), merge(files)
    try:
        change.check_signatures_untrusted(sets.newest)
    except Malformed as e:
        raise UserError(f"The change cannot be handed in: {e}.") from e
    reply = _ask(config, encode_request(SubmitChange(change.encode())))
    if isinstance(reply, RefusedReply):
        raise UserError(
            f"The directory refused the change: {reply.reason}. It must be signed by a quorum, follow the newest set, "
            f"and act at least {sets.genesis.terms.notice_epochs} epochs from now."
        )
    if not isinstance(reply, Accepted):
        raise UserError("The directory gave an answer that makes no sense. Is it of the same release?")
    return summary(change, sets)


def summary(change: SetChange, sets: DirectorySets) -> str:
    """What a change does, line by line."""
    old = sets.at(change.acts_at) if change.number < sets.next_number else sets.newest
    names = {directory.node_id: directory.nickname for directory in sets.newest.directories}
    lines = [f"change {change.number} of network {sets.genesis.name}, acts at epoch {change.acts_at}"]
    lines += [f"  out  {names.get(node, '?')}  {node}" for node in change.removed]
    lines += [f"  in   {info.nickname}  {info.node_id}" for info in change.added]
    lines += [f"  signed by {len(change.signatures)}, {old.quorum} are needed"]
    return "\n".join(lines)


def save(change: SetChange, path: Path) -> None:
    write_whole(path, base64.encodebytes(change.encode()), 0o644)


def load(path: Path) -> SetChange:
    """Raises: UserError."""
    try:
        raw = path.read_bytes()
        if len(raw) > MAX_FILE_BYTES:
            raise Malformed("too long")
        return SetChange.decode_untrusted(base64.b64decode(raw.replace(b"\n", b""), validate=True))
    except OSError as e:
        raise UserError(f"{path}: cannot read: {e.strerror}. Check the path.") from e
    except (Malformed, ValueError, binascii.Error) as e:
        raise UserError(f"{path}: not a change of the directory set ({e}). Get an unchanged copy.") from e


def _member(genesis: Genesis, text: str) -> NodeId:
    """By nickname or node id."""
    found = [d.node_id for d in genesis.directories if text in (d.nickname, str(d.node_id))]
    if len(found) != 1:
        raise UserError(
            f"--remove {text}: {'no' if not found else 'more than one'} directory is called so. Give its id."
        )
    return found[0]


def _ask(config: NodeConfig, request: bytes) -> Reply:
    import grpc

    socket = config.sockets / "directory.sock"
    try:
        with grpc.insecure_channel(unix_path.target(socket)) as channel:
            stub = directory_pb2_grpc.DirectoryStub(channel)
            reply = stub.PeerRequest(directory_pb2.PeerRequestMessage(request=request), timeout=CALL_SECONDS)
            return decode_reply_untrusted(bytes(reply.response))
    except grpc.RpcError as e:
        raise UserError(f"{socket}: no directory answers. Start the node: phantomband node --config FILE") from e
