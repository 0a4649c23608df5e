"""The product as a tree for nodes, and as a small read-only disk for virtual machines.

    VERSION/bin/spanreel    the command
    VERSION/lib/            wheel of this checkout and locked dependencies, byte-compiled
    current -> VERSION

It is no virtual environment: those hold absolute paths of the machine they were made on.  The tree is made
for the appliance's own /usr/bin/python3 (Debian's 3.11) whatever Python runs here.
"""

from __future__ import annotations

import os
import shutil
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from harness.image.build import Progress, run_logged
from harness.image.cache import Cache, key_of, tree_parts
from harness.image.recipe import Project

# Changed by hand when this module makes something else of the same inputs.
PRODUCT_VERSION = "2"
# The appliance's interpreter; compiled files are of use to this one only.
NODE_PYTHON = "3.11"
# Wheels for any of these run on the appliance (glibc 2.36).
_PLATFORMS = ("manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux_2_28_x86_64")
_SOURCES = ("pyproject.toml", "README.md", "LICENSE", "appliance", "harness", "tape")
# Digits of the sources' hash in the version's name.
_VERSION_DIGITS = 8
# Room on the disk beyond the files themselves: inodes, journal-less metadata, rounding.
_DISK_SLACK = 1.3
_DISK_EXTRA_BYTES = 4 << 20

_COMMAND = """\
#!/usr/bin/python3 -sE
import os, sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "lib"))
from appliance.cli import main
sys.exit(main())
"""


@dataclass(frozen=True)
class Product:
    """What is mounted at /opt/spanreel."""

    version: str
    tree: Path
    disk: Path


def ensure_product(project: Project, cache: Cache, progress: Progress) -> Product:
    """The product of this checkout, from the cache or built now (seconds)."""
    key = product_key(project)
    number = tomllib.loads((project.root / "pyproject.toml").read_text())["project"]["version"]
    version = f"{number}+{key[:_VERSION_DIGITS]}"
    builder = _Builder(project, cache, version, progress)
    folder = cache.entry("product", key, builder.build)
    return Product(version, folder / "tree", folder / "product.img")


def product_key(project: Project) -> str:
    """Return the identity of this checkout's product: the same key means the same product."""
    lock = project.product_lock.read_bytes()
    present = [name for name in _SOURCES if (project.root / name).exists()]
    # Without a compiler on this host the product lacks its helper for small files.
    compiler = str(bool(shutil.which("cc") or shutil.which("gcc"))).encode()
    made = [("product", PRODUCT_VERSION.encode()), ("lock", lock), ("compiler", compiler)]
    parts = [*made, *tree_parts(project.root, *present)]
    return key_of(parts)


def product_disk(key: str, cache: Cache) -> Path:
    """Return where the disk of a product is, if it is in the cache."""
    return cache.root / "product" / key / "product.img"


class _Builder:
    def __init__(self, project: Project, cache: Cache, version: str, progress: Progress) -> None:
        self._project = project
        self._cache = cache
        self._version = version
        self._progress = progress
        self._logs = cache.root / "log"

    def build(self, folder: Path) -> None:
        """Fill `folder` with tree and disk."""
        lock = self._project.product_lock
        dependencies = self._cache.entry("deps", key_of([("lock", lock.read_bytes())]), self._dependencies)
        tree = folder / "tree"
        top = tree / self._version
        library = top / "lib"
        # Hard links would be quicker, but the cache may lie on another file system.
        shutil.copytree(dependencies, library)
        self._progress("building the wheel")
        self._wheel(folder / "work", library)
        (top / "bin").mkdir()
        command = top / "bin" / "spanreel"
        command.write_text(_COMMAND)
        command.chmod(0o755)
        (tree / "current").symlink_to(self._version)
        self._progress("packing the disk")
        self._pack(tree, folder / "product.img")

    def _dependencies(self, folder: Path) -> None:
        self._progress("installing locked dependencies")
        platforms = [word for name in _PLATFORMS for word in ("--platform", name)]
        run_logged(
            [
                *_pip("install"),
                "--no-deps",
                "--no-compile",
                "--only-binary=:all:",
                "--implementation",
                "cp",
                "--python-version",
                NODE_PYTHON,
                *platforms,
                "--target",
                str(folder),
                "--requirement",
                str(self._project.product_lock),
            ],
            self._logs / "product-deps.log",
            "installing the product's locked dependencies with pip",
        )
        shutil.rmtree(folder / "bin", ignore_errors=True)
        self._compile(folder)

    def _wheel(self, work: Path, library: Path) -> None:
        """Build from a copy: setuptools leaves files behind where it builds."""
        source = work / "source"
        for name in _SOURCES:
            path = self._project.root / name
            if path.is_dir():
                shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
            elif path.exists():
                source.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, source)
        # A checkout without a README yet must still build.
        (source / "README.md").touch()
        log = self._logs / "product-wheel.log"
        run_logged(
            [*_pip("wheel"), "--no-deps", "--wheel-dir", str(work), str(source)], log, "building the wheel"
        )
        wheel = next(work.glob("*.whl"))
        target = [
            *_pip("install"),
            "--no-deps",
            "--no-compile",
            "--upgrade",
            "--target",
            str(library),
            str(wheel),
        ]
        run_logged(target, log, "installing the wheel into the product tree")
        shutil.rmtree(library / "bin", ignore_errors=True)
        helpers = ("appliance/archive/_quick*.so", "tape/_carry*.so")
        if not all(any(library.glob(helper)) for helper in helpers):
            self._progress(
                "no C compiler here: the product goes without its helpers (archive/quick.py, carry.py)"
            )
        for package in ("appliance", "harness", "tape"):
            self._compile(library / package)
        shutil.rmtree(work)

    def _compile(self, folder: Path) -> None:
        """Byte-compile for the node, which mounts the tree read-only.

        Unchecked: the node does not look at the sources' times, which packing may change.  Another
        Python's files would be ignored there, so it is left out when ours is another.
        """
        if f"{sys.version_info.major}.{sys.version_info.minor}" == NODE_PYTHON and folder.is_dir():
            run_logged(
                [
                    sys.executable,
                    "-m",
                    "compileall",
                    "-q",
                    "-j",
                    "0",
                    "--invalidation-mode",
                    "unchecked-hash",
                    "-s",
                    str(folder),
                    str(folder),
                ],
                self._logs / "product-compile.log",
                "compiling the product tree",
            )

    def _pack(self, tree: Path, disk: Path) -> None:
        used = sum(4096 + os.lstat(path).st_size for path in tree.rglob("*"))
        with disk.open("wb") as out:
            out.truncate(int(used * _DISK_SLACK) + _DISK_EXTRA_BYTES)
        run_logged(
            [
                "mke2fs",
                "-q",
                "-F",
                "-t",
                "ext4",
                "-L",
                "spanreel-product",
                "-m",
                "0",
                "-O",
                "^has_journal,^metadata_csum",
                "-E",
                "root_owner=0:0",
                "-d",
                str(tree),
                str(disk),
            ],
            self._logs / "product-mke2fs.log",
            "packing the product disk with mke2fs",
        )


def _pip(verb: str) -> list[str]:
    return [sys.executable, "-m", "pip", verb, "--quiet", "--disable-pip-version-check"]
