"""Any bytes given to a link, at any point of its life and in any split, end in events or in Malformed; then
it is deaf.

Run: `make fuzz TARGETS=link`.
"""

from __future__ import annotations

import random

from phantomband.core.cell import CELL_BYTES
from phantomband.core.crypto.kem import encapsulate_untrusted
from phantomband.core.errors import Malformed
from phantomband.core.ids import NodeId
from phantomband.core.link import Cells, Link, LinkKey, Send, dial, listen

NETWORK, NODE, KEY = bytes(32), NodeId(b"n" * 32), LinkKey(b"k" * 32)
SOURCE = random.Random(0).randbytes


def ends() -> tuple[Link, Link]:
    """(dialer, listener) before their first byte."""
    dialer = dial(NETWORK, NODE, KEY.public, None, SOURCE)
    return dialer, listen(NETWORK, NODE, KEY, SOURCE, encapsulate_untrusted)


def feed(link: Link, data: bytes) -> None:
    """`data` in two parts; after a failure the link must be deaf."""
    try:
        for part in (data[: len(data) // 3], data[len(data) // 3 :]):
            link.receive(part)
    except Malformed:
        if link.receive(data) != []:
            raise AssertionError("a dead link answered") from None


def one_input(data: bytes) -> None:
    """Feeds `data` to a fresh listener, a waiting dialer, and a listener amid a record."""
    dialer, listener = ends()
    feed(listener, data)
    dialer.start()
    feed(dialer, data)
    dialer, listener = ends()
    for event in listener.receive(dialer.start()):
        if isinstance(event, Send):
            dialer.receive(event.data)
    honest = dialer.seal(bytes(CELL_BYTES))
    cut = data[0] if data else 0
    events = listener.receive(honest[:cut])
    if any(isinstance(event, Cells) for event in events):
        raise AssertionError("cells out of part of a record")
    feed(listener, data)
