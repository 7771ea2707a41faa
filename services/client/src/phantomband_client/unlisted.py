"""Bridges that no view lists: their keys come from themselves, over the link that the bridge line leads to.

A bridge's descriptor is signed like any other, so the line's node id proves it. It is asked for each time the view is
refreshed, since onion keys turn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from phantomband.core.errors import Malformed, Refused
from phantomband.core.ids import NodeId
from phantomband.core.netdir.certified import CLOCK_SKEW_SECONDS
from phantomband.core.netdir.descriptor import Descriptor, decode_untrusted
from phantomband.core.netdir.replies import Records, decode_reply_untrusted
from phantomband.core.netdir.requests import GetOwn, encode_request
from phantomband.core.netdir.view import Flags, View, ViewEntry

from phantomband_client.guard_link import GuardLink


class Unlisted:
    """The entries of such bridges, as a view would have them.

    Args:
        bridges: ids of the bridges that the client was given; others are never asked about themselves.
        clock: Unix seconds.
    """

    def __init__(self, network_id: bytes, bridges: frozenset[NodeId], clock: Callable[[], float]) -> None:
        self._network_id, self._bridges, self._clock = network_id, bridges, clock
        self._found: dict[NodeId, ViewEntry] = {}

    def find(self, view: View, node: NodeId) -> ViewEntry | None:
        """The entry of a bridge: the view's, or its own."""
        return view.find(node) or self._found.get(node)

    def lacking(self, view: View) -> bool:
        """Whether no bridge can be used yet, although there are some."""
        return bool(self._bridges) and not any(self.find(view, node) for node in self._bridges)

    def view_with(self, view: View, node: NodeId) -> View:
        """`view` with the entry of `node`, if that is in no view."""
        entry = self._found.get(node)
        if entry is None or view.find(node) is not None:
            return view
        return replace(view, entries=tuple(sorted((*view.entries, entry), key=lambda one: one.node_id)))

    async def ask(self, link: GuardLink, view: View) -> None:
        """Asks the bridge behind `link` for its descriptor, if no view has it.

        Raises:
            Refused: what it answers is no descriptor of it that is in force.
        """
        node = link.node_id
        if node not in self._bridges or view.find(node) is not None:
            self._found.pop(node, None)
            return
        try:
            reply = decode_reply_untrusted(await link.directory_call(encode_request(GetOwn())))
            if not isinstance(reply, Records) or len(reply.items) != 1:
                raise Refused("the bridge is in no view and does not say its keys: it may be of an older release")
            signed = decode_untrusted(reply.items[0][1], self._network_id)
        except Malformed as e:
            raise Refused(f"the bridge's descriptor cannot be used: {e}") from e
        descriptor = signed.descriptor
        if descriptor.node_id != node or descriptor.link_key != link.link_key:
            raise Refused("the bridge gave the descriptor of another node. Do not use this line")
        now = self._clock()
        if not descriptor.published - CLOCK_SKEW_SECONDS <= now < descriptor.expires + CLOCK_SKEW_SECONDS:
            raise Refused("the bridge's descriptor is not in force. Check this machine's clock")
        self._found[node] = _entry(descriptor)


def _entry(descriptor: Descriptor) -> ViewEntry:
    return ViewEntry(
        node_id=descriptor.node_id,
        link_key=descriptor.link_key,
        onion_key=descriptor.onion_key,
        previous_onion_key=None,
        addresses=descriptor.addresses,
        flags=int(Flags.GUARD),
        weight=1,
        exit_policy="",
        family=b"",
        mix=descriptor.mix,
        nickname=descriptor.nickname,
        padding=descriptor.padding,
    )
