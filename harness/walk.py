"""Walks one edge of the graph of states (`states`): its time is limited, its first error is remembered."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from harness.errors import HarnessError, InfrastructureError
from harness.providers.base import Provider
from harness.states import Step


@contextmanager
def walking(provider: Provider, step: Step) -> Iterator[None]:
    """Do a step's work in the block.

    Raises RememberedError if the step failed before in this run.  When its time is over the provider gives up
    what it waits for, and the error says so; work that ends well all the same is well done.
    """
    provider.troubles.require_untried(step)
    over = threading.Event()

    def expire() -> None:
        over.set()
        provider.give_up()

    timer = threading.Timer(step.seconds, expire)
    timer.daemon = True
    timer.start()
    try:
        yield
    except Exception as error:
        problem = _told(provider, step, error) if over.is_set() else error
        if isinstance(problem, HarnessError):
            provider.troubles.failed(step, problem)
        if problem is error:
            raise
        raise problem from error
    finally:
        timer.cancel()


def _told(provider: Provider, step: Step, error: Exception) -> HarnessError:
    """Whatever an interrupted wait ends with, the cause is the time."""
    hint = f"what it did is in {provider.lab.folder}/events.jsonl"
    return InfrastructureError(f"{step.name}: not done after {step.seconds:.0f} s: {error}", hint=hint)
