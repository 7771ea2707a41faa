"""The edges of a service where `Contained` is put: calls of its gRPC interface, and callbacks that nobody wrapped.

gRPC answers an error in a handler by itself, but writes its words and traceback to the log, which may hold what a peer
sent; the event loop does the same for an error in a callback. Here both are counted as bugs, and logged as those are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import grpc
import grpc.aio

from phantomband.runtime.contained import Contained

Handler = Callable[[Any, Any, Any], Awaitable[Any]]
"""A method of a servicer: takes (servicer, request, context)."""


class HasContained(Protocol):
    """A servicer whose methods are contained."""

    contained: Contained


def handler(method: Handler) -> Handler:
    """Wraps a method of a servicer: an unexpected error is counted, and ends that call alone (INTERNAL)."""

    async def contained(self: HasContained, request: Any, context: Any) -> Any:
        try:
            return await method(self, request, context)
        except (grpc.aio.AbortError, grpc.RpcError):  # a handler's own answer
            raise
        except grpc.aio.InternalError as e:  # whoever asked is gone, killed perhaps: there is nobody to answer
            raise asyncio.CancelledError from e
        except Exception as e:  # noqa: BLE001 - the root of a call
            self.contained.bug(e)
            await context.abort(grpc.StatusCode.INTERNAL, "an error in this service")

    contained.__name__ = method.__name__
    contained.__doc__ = method.__doc__
    return contained


def watch_callbacks(contained: Contained) -> None:
    """Errors in callbacks of the running loop, and of tasks that nobody awaits, are counted as bugs."""

    def failed(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, Exception):
            contained.bug(error)

    asyncio.get_running_loop().set_exception_handler(failed)
