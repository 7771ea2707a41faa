"""Directories that lie: the real service, whose ballots are changed on their way out, as a plan says.

The plan is JSON, {node: lie}, read anew before each message. Lies, told by the node's own key:

    silent      sends no ballot
    half        sends ballots to the first half of the directories only
    votes       one vote to some, another to others
    echoes      one echo to some, another to others
    signatures  signs another digest for others
    false       votes for descriptors that nobody has, with the greatest weights
    dies        ends between signing a view and sending the signature
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from phantomband.core.crypto.labels import SIGN_VIEW
from phantomband.core.crypto.sign import IdentityKey
from phantomband.core.errors import Refused
from phantomband.core.netdir import ballot
from phantomband.core.netdir.genesis import Genesis
from phantomband.core.netdir.genesis_file import load_genesis
from phantomband.core.netdir.requests import Ballot, decode_request_untrusted, encode_request
from phantomband.core.netdir.view import MAX_WEIGHT
from phantomband.core.netdir.voting_events import BallotKind
from phantomband.runtime.settings import NodeConfig, load
from phantomband_directory.adapters import GrpcPeerNetwork
from phantomband_directory.parts import Contact

LIES = ("silent", "half", "votes", "echoes", "signatures", "false", "dies")


class LyingNetwork(GrpcPeerNetwork):
    """What a lying directory sends through."""

    plan: Path
    name: str
    key: IdentityKey
    genesis: Genesis

    async def call(self, contact: Contact, request: bytes) -> bytes:
        lie = json.loads(self.plan.read_text()).get(self.name, "")
        if lie and isinstance(asked := decode_request_untrusted(request), Ballot):
            request = encode_request(Ballot(asked.kind, self._changed(lie, asked, contact)))
        return await super().call(contact, request)

    def _changed(self, lie: str, asked: Ballot, contact: Contact) -> bytes:
        index = self.genesis.index_of(contact.node_id) or 0
        if lie == "silent" or (lie == "half" and index >= self.genesis.size // 2):
            raise Refused("kept back")
        if lie == "dies" and asked.kind is BallotKind.SIGNATURE:
            os._exit(1)
        match lie, asked.kind:
            case ("votes", BallotKind.VOTE) if index % 2:
                vote = ballot.Vote.decode_untrusted(asked.data)
                return ballot.sign_vote(replace(vote, entries=vote.entries[::2]), self.key)
            case "false", BallotKind.VOTE:
                vote = ballot.Vote.decode_untrusted(asked.data)
                made_up = [replace(e, descriptor=os.urandom(32), weight=MAX_WEIGHT, flags=0xFFFF) for e in vote.entries]
                return ballot.sign_vote(replace(vote, entries=tuple(made_up)), self.key)
            case ("echoes", BallotKind.ECHO) if index % 2:
                echo = ballot.Echo.decode_untrusted(asked.data)
                return ballot.sign_echo(replace(echo, held=echo.held[::2]), self.key)
            case ("signatures", BallotKind.SIGNATURE) if index % 2:
                share = replace(ballot.ViewSignature.decode_untrusted(asked.data), view=os.urandom(32))
                return replace(share, signature=self.key.sign(share.message(), SIGN_VIEW)).encode()
        return asked.data


def lying(name: str, config: Path, plan: Path) -> type[LyingNetwork]:
    """The network of one node; its key is there before its directory starts, as it is of the genesis set."""
    settings = load(NodeConfig, config)
    identity = (settings.data_dir / "directory" / "identity.key").read_bytes()
    values: dict[str, Any] = {
        "plan": plan,
        "name": name,
        "key": IdentityKey(identity),
        "genesis": load_genesis(settings.genesis),
    }
    return type("Lying", (LyingNetwork,), values)
