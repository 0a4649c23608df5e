"""Loggers for modules that commands import, too: structlog is imported when there is something to log.

That takes 30 % of the time in which `spanreel jobs` starts, and most commands never log a line.  Servers
import it at once (`appliance.logs`).
"""

from __future__ import annotations

from typing import Any

__all__ = ["get_logger"]


class _Logger:
    """What `structlog.get_logger()` returns, as soon as anything is asked of it."""

    def __getattr__(self, name: str) -> Any:
        import structlog

        return getattr(structlog.get_logger(), name)


def get_logger() -> Any:
    """Return a logger, as `structlog.get_logger` does."""
    return _Logger()
