"""The product as one file that ansible unpacks on a machine."""

from __future__ import annotations

import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.image.cache import Cache
from harness.image.product import NODE_PYTHON, Product

# Fast; the tree is mostly compiled Python, which shrinks to a third at any level.
_COMPRESSION = 1


@dataclass(frozen=True)
class Bundle:
    """A packed product, and the version that is in it."""

    file: Path
    version: str


def pack(product: Product, cache: Cache) -> Bundle:
    """Pack a product tree, once; it is kept in the cache."""

    def build(folder: Path) -> None:
        with tarfile.open(folder / "product.tar.gz", "w:gz", compresslevel=_COMPRESSION) as archive:
            archive.add(product.tree / product.version, product.version, filter=_owned_by_root)

    folder = cache.entry("bundle", product.tree.parent.name, build)
    return Bundle(folder / "product.tar.gz", product.version)


def given(file: Path) -> Bundle:
    """Look into a packed product that somebody brought.  Raises UsageError."""
    try:
        with tarfile.open(file) as archive:
            first = archive.next()
    except (OSError, tarfile.TarError) as error:
        raise UsageError(f"{file}: no packed product: {error}") from error
    if first is None or not first.isdir() or "/" in first.name:
        raise UsageError(f"{file}: a packed product begins with the folder of its version")
    return Bundle(file.resolve(), first.name)


def place(bundle: Bundle, folder: Path) -> dict[str, Any]:
    """Copy it into an inventory's folder; return the variables that the role `product` goes by."""
    name = f"spanreel-{bundle.version}.tar.gz"
    target = folder / "product" / name
    if not target.exists():
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = target.with_name(f".{name}.partial")
        shutil.copyfile(bundle.file, partial)
        partial.replace(target)
    return {
        "spanreel_product": f"{{{{ inventory_dir }}}}/product/{name}",
        "spanreel_version": bundle.version,
        "spanreel_python": NODE_PYTHON,
    }


def _owned_by_root(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    return info
