"""Tables for terminals."""

from __future__ import annotations

from collections.abc import Sequence

import click


def show_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows, the first of which is the head, in columns as wide as they need."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
