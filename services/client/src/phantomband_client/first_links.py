"""The first link of a client that has no guard yet: to a bridge, where there are bridge lines, else to a directory of
the genesis file.

With bridge lines nothing else is ever dialled: who needs a bridge must not be seen to knock at a directory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from phantomband.core.bridge_line import BridgeLine
from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.errors import Malformed, Refused, UserError
from phantomband.core.netdir.genesis import Genesis
from phantomband.core.netdir.genesis_file import parse_genesis
from phantomband.core.netdir.path import uniform_below
from phantomband.core.netdir.replies import GenesisReply, decode_reply_untrusted
from phantomband.core.netdir.requests import GetGenesis, encode_request
from phantomband.runtime.state_files import StateFiles
from phantomband.transports.managed.program import ProgramFailed

from phantomband_client.choice.chooser import Chooser, Entrance
from phantomband_client.guard_link import GuardLink

GENESIS_FILE = "genesis.json"
RETRY_SECONDS = (1.0, 30.0)
"""Pause between attempts to get the genesis file, from the first to the last."""


class FirstLinks:
    """Where a client may begin.

    Args:
        bridges: tried in their order; without any, the genesis file's directories, from a random one on.
    """

    def __init__(
        self, bridges: Sequence[BridgeLine], genesis: Genesis | None, chooser: Chooser, random: RandomSource
    ) -> None:
        self._chooser, self._random = chooser, random
        self._by_bridge = bool(bridges)
        self._entrances = Entrance.of_bridges(bridges)
        if genesis is not None and not bridges:
            self._entrances = [Entrance(d.node_id, d.link_key, d.addresses) for d in genesis.directories]

    async def dial(self) -> GuardLink:
        """A link to the first that answers; the caller closes it.

        Raises:
            Refused: none does.
        """
        start = 0 if self._by_bridge else uniform_below(len(self._entrances), self._random)
        entrances = self._entrances[start:] + self._entrances[:start]
        try:
            return await self._chooser.dial(entrances, lambda node: GuardLink(node, lambda _: None, self._random))
        except Refused as e:
            raise Refused(of_program(e) or self._nobody()) from e

    def _nobody(self) -> str:
        how = " or ".join(self._chooser.transports)
        if self._by_bridge:
            return (
                f"no bridge can be reached by {how}. Check the network connection and that the bridge line is whole, "
                "or get another line"
            )
        return (
            f"no directory of the genesis file can be reached by {how}. "
            "Check the network connection, or try another transport"
        )


def of_program(problem: BaseException | None) -> str:
    """What a transport program said that is at fault, where it is."""
    while problem is not None and not isinstance(problem, ProgramFailed):
        problem = problem.__cause__
    return str(problem) if problem is not None else ""


async def genesis_by_bridge(
    bridges: Sequence[BridgeLine],
    files: StateFiles,
    chooser: Chooser,
    random: RandomSource,
    trouble: Callable[[str], None],
) -> Genesis:
    """The genesis of the bridges' network: as it was stored, or from a bridge, for as long as that takes.

    Args:
        trouble: told what is wrong when an attempt fails.
    """
    network_id = bridges[0].network_id
    stored = _stored_genesis(files, network_id)
    if stored is not None:
        return stored
    links = FirstLinks(bridges, None, chooser, random)
    delay, longest = RETRY_SECONDS
    while True:
        try:
            text = await _ask_genesis(links, network_id)
            break
        except Refused as e:
            trouble(str(e))
        await asyncio.sleep(delay)
        delay = min(2 * delay, longest)
    files.write(GENESIS_FILE, text)
    return checked_genesis(text, network_id)


async def _ask_genesis(links: FirstLinks, network_id: bytes) -> bytes:
    link = await links.dial()
    try:
        reply = decode_reply_untrusted(await link.directory_call(encode_request(GetGenesis())))
        if not isinstance(reply, GenesisReply):
            raise Refused("the bridge gives no genesis file: it may be of an older release. Get another line")
        checked_genesis(reply.json, network_id)
        return reply.json
    except Malformed as e:
        raise Refused(f"the bridge's answer cannot be used: {e}") from e
    finally:
        link.close()


def checked_genesis(text: bytes, network_id: bytes) -> Genesis:
    """The genesis in `text`.

    Raises:
        Refused: it is none, or not that of the network.
    """
    try:
        genesis = parse_genesis(text, "the bridge's genesis file")
    except UserError as e:
        raise Refused(str(e)) from e
    if genesis.network_id != network_id:
        raise Refused("the bridge gave the genesis file of another network than its line says. Do not use this line")
    return genesis


def _stored_genesis(files: StateFiles, network_id: bytes) -> Genesis | None:
    def ours(text: bytes) -> Genesis:
        try:
            return checked_genesis(text, network_id)
        except Refused as e:
            raise ValueError(str(e)) from e

    return files.read(GENESIS_FILE, ours)
