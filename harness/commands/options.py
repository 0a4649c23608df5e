"""Options that several subcommands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

F = TypeVar("F", bound=Callable[..., object])


def which_lab(function: F) -> F:
    """Add --topology and --lab."""
    topology = click.option(
        "--topology",
        metavar="NAME|FILE",
        help="A shipped topology (process, vms) or a file. Default: that of --lab, else vms.",
    )
    name = click.option("--lab", "name", metavar="NAME", help="Name of the lab. Default: the topology's.")
    return topology(name(function))
