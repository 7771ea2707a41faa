"""The thread that QUIC runs on, with a stock asyncio loop.

aioquic's timers and uvloop's clock differ in resolution, and together they spin (DESIGN.md section 8), while
all else runs on uvloop. One daemon thread serves every QUIC connection of the process; it begins with the
first.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import logging
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

STOP_TIMEOUT = 1.0
"""Seconds that the thread has to end at the process's exit."""


@functools.cache
def quic_loop() -> asyncio.AbstractEventLoop:
    """The loop of the QUIC thread, which is started by the first call."""
    logging.getLogger("quic").setLevel(logging.CRITICAL + 1)  # aioquic logs its peers' addresses
    loop = asyncio.SelectorEventLoop()
    thread = threading.Thread(target=loop.run_forever, name="quic", daemon=True)
    thread.start()

    def stop() -> None:
        """A daemon thread still running while the interpreter ends can hang it."""
        loop.call_soon_threadsafe(loop.stop)
        thread.join(STOP_TIMEOUT)

    atexit.register(stop)
    return loop


async def on_quic_loop(work: Coroutine[Any, Any, T]) -> T:
    """Runs `work` there and waits for it here; cancelling the one cancels the other."""
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, quic_loop()))
