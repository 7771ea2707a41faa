"""Logging: structlog to standard error, and the one type that may hold what must never be logged.

No line has keys, payload, tokens, addresses or targets, at any level; no line is written for a single request, circuit
or cell at info level or above: it would be a timing record.
"""

from __future__ import annotations

import logging
import sys

import structlog


class Scrubbed:
    """Holds an address, target or path; prints as [scrubbed]."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value

    def __repr__(self) -> str:
        return "[scrubbed]"

    __str__ = __repr__


def configure(service: str, level: str, form: str) -> structlog.stdlib.BoundLogger:
    """Sets logging up for this process; returns its logger."""
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if form == "json" else structlog.dev.ConsoleRenderer(colors=False)
    )
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.TimeStamper("iso"), renderer],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    log: structlog.stdlib.BoundLogger = structlog.get_logger().bind(service=service)
    return log
