"""How fast a link seals and opens: MB/s each way for 256 KiB of cells a call. Run: python
bench/micro_link.py"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from phantomband.core.cell import CELL_BYTES
from phantomband.core.crypto.kem import encapsulate_untrusted
from phantomband.core.ids import NodeId
from phantomband.core.link import Cells, Link, LinkKey, Send, dial, listen

BATCH_BYTES = 256 * 1024
"""What one read of a busy link carries (DESIGN.md section 8)."""

ROUNDS, CALLS = 7, 200


def connected() -> tuple[Link, Link]:
    key, network, node = LinkKey.generate(os.urandom), bytes(32), NodeId(bytes(32))
    client = dial(network, node, key.public, None, os.urandom)
    server = listen(network, node, key, os.urandom, encapsulate_untrusted)
    for event in server.receive(client.start()):
        if isinstance(event, Send):
            client.receive(event.data)
    return client, server


def best(work: Callable[[int], None], prepare: Callable[[], None]) -> float:
    """Seconds a call in the best round."""
    seconds = []
    for _ in range(ROUNDS):
        prepare()
        start = time.perf_counter()
        for i in range(CALLS):
            work(i)
        seconds.append((time.perf_counter() - start) / CALLS)
    return min(seconds)


def main() -> None:
    client, server = connected()
    cells = os.urandom(BATCH_BYTES // CELL_BYTES * CELL_BYTES)
    sealed: list[bytes] = []

    def prepare() -> None:
        sealed[:] = [bytes(client.seal(cells)) for _ in range(CALLS)]

    def open_one(i: int) -> None:
        (event,) = server.receive(sealed[i])
        assert isinstance(event, Cells)

    print(f"open: {len(cells) / best(open_one, prepare) / 1e6:,.0f} MB/s")
    print(f"seal: {len(cells) / best(lambda _: (client.seal(cells), None)[1], lambda: None) / 1e6:,.0f} MB/s")
    start = time.perf_counter()
    for _ in range(200):
        connected()
    print(f"handshake, both sides: {(time.perf_counter() - start) / 200 * 1e6:,.0f} us")


if __name__ == "__main__":
    main()
