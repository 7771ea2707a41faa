"""Logging: structlog to standard error.

No line has keys, payload, tokens, addresses or targets, at any level; no line is written for a single request, circuit
or cell at info level or above: it would be a timing record.

A line that cannot be written (a full disk, a reader that is gone) is lost and counted; it ends nobody.
"""

from __future__ import annotations

import io
import logging
import sys
from typing import TextIO, cast

import structlog


class Sink(io.TextIOBase):
    """Where lines go; never raises. `None`: nowhere, as for a process that was started with standard error closed."""

    def __init__(self, out: TextIO | None) -> None:
        self.lost = 0
        """Lines that were not written."""
        self._out = out

    def write(self, text: str) -> int:
        if self._out is None:
            return len(text)
        try:
            self._out.write(text)
            self._out.flush()
        except (OSError, ValueError):  # ValueError: closed
            self.lost += 1
        return len(text)


def configure(service: str, level: str, form: str) -> structlog.stdlib.BoundLogger:
    """Sets logging up for this process; returns its logger."""
    sink = cast(TextIO, Sink(sys.stderr))
    logging.raiseExceptions = False
    logging.basicConfig(level=logging.ERROR, stream=sink, format="%(levelname)s %(name)s %(message)s")
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if form == "json" else structlog.dev.ConsoleRenderer(colors=False)
    )
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.TimeStamper("iso"), renderer],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(sink),
    )
    log: structlog.stdlib.BoundLogger = structlog.get_logger().bind(service=service)
    return log
