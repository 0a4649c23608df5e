"""What every log line of a session carries: session, peer, user or node, job.

Facts are noted in the session's own thread, and hold there until it ends.  A thread that works for the
session is started with a copy (`carrying`), because Python gives new threads none.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import ParamSpec, TypeVar

Params = ParamSpec("Params")
Result = TypeVar("Result")


def note(**facts: str) -> None:
    """Have all further lines of this thread carry these."""
    from structlog.contextvars import bind_contextvars

    bind_contextvars(**facts)


def forget(*names: str) -> None:
    """No longer carry these; those that are not carried are ignored."""
    from structlog.contextvars import unbind_contextvars

    unbind_contextvars(*names)


def carrying(target: Callable[Params, Result]) -> Callable[Params, Result]:
    """`target`, to be run in another thread with what this one's lines carry now; one run at a time."""
    context = contextvars.copy_context()

    def run(*args: Params.args, **kwargs: Params.kwargs) -> Result:
        return context.run(target, *args, **kwargs)

    return run
