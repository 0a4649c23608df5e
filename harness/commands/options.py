"""Options that several subcommands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

from harness import lab as labs

F = TypeVar("F", bound=Callable[..., object])


def _checked(ctx: click.Context, option: click.Parameter, name: str | None) -> str | None:
    """Refuse a name that can be none: `clean --lab "$UNSET"` must not mean the default lab."""
    del ctx, option
    if name is not None:
        labs.lab_folder(name)
    return name


def which_lab(function: F) -> F:
    """Add --topology and --lab."""
    topology = click.option(
        "--topology",
        metavar="NAME|FILE",
        help="A shipped topology (process, vms) or a file. Default: that of --lab, else vms.",
    )
    name = click.option(
        "--lab", "name", metavar="NAME", callback=_checked, help="Name of the lab. Default: the topology's."
    )
    return topology(name(function))


def no_wait(function: F) -> F:
    """Add --no-wait, as the argument `wait`."""
    option = click.option(
        "--no-wait",
        "wait",
        is_flag=True,
        flag_value=False,
        default=True,
        help="If another run holds the library, say who and end, instead of waiting for the turn.",
    )
    return option(function)
