"""`python -m harness.image`: builds what virtual machines boot, ahead of whoever will want it."""

from __future__ import annotations

import sys
from collections.abc import Callable

import click

from harness.errors import HarnessError
from harness.image.build import ensure_image, ensure_plain
from harness.image.cache import Cache
from harness.image.product import ensure_product
from harness.image.recipe import Project, checkout


def build(project: Project, cache: Cache, progress: Callable[[str], None]) -> None:
    """Build image, plain Debian and product, of those that the cache has not; `progress` hears their keys."""
    progress(f"image {ensure_image(project, cache, progress).key}")
    progress(f"plain Debian {ensure_plain(project, cache, progress).image.key}")
    progress(f"product {ensure_product(project, cache, progress).version}")


def main() -> int:
    """Build for this checkout; return an exit code."""
    try:
        build(checkout(), Cache(), click.echo)
    except HarnessError as error:
        click.echo(f"harness.image: {error.message}", err=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
