"""Structured logs: one line an event, key=value, on standard error; the journal adds time and unit.

Lines of a session carry its id, its peer, the user or node, and the job it works for
(`appliance.ndmp.logcontext`).
"""

from __future__ import annotations

import logging
import sys
from typing import TextIO

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

_ORDER = ("timestamp", "level", "event", "session", "peer", "user", "node", "job")


def setup(level: str, stream: TextIO | None = None) -> None:
    """Send events of at least `level` to `stream`, by default standard error, as one logfmt line each."""
    import structlog  # by those who log; see appliance.ndmp.lazylog

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=_ORDER, drop_missing=True, bool_as_flag=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(stream or sys.stderr),
        cache_logger_on_first_use=True,
    )
