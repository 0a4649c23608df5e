"""Uncompressed kernel and busybox initrd of an image.

Unpacking the kernel costs an emulated processor seconds at every boot, and once here.  The initrd knows the
machine it boots (five drivers, disks by serial, an address on the command line), which saves udev and
initramfs-tools on the way.
"""

from __future__ import annotations

import gzip
import io
import lzma
import stat
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

from harness.errors import InfrastructureError

_CPIO_ALIGNMENT = 4


def _unxz(data: bytes) -> bytes:
    return lzma.LZMADecompressor(format=lzma.FORMAT_XZ).decompress(data)


def _gunzip(data: bytes) -> bytes:
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16).decompress(data)


def _unzstd(data: bytes) -> bytes:
    # Trailing bytes after the frame make zstd fail after it has written everything.
    return subprocess.run(["zstd", "-dc"], input=data, capture_output=True, check=False).stdout


# How a bzImage's payload may be packed, by the payload's first bytes.
_PAYLOADS: tuple[tuple[bytes, Callable[[bytes], bytes]], ...] = (
    (b"\xfd7zXZ\x00", _unxz),
    (b"\x1f\x8b\x08", _gunzip),
    (b"\x28\xb5\x2f\xfd", _unzstd),
)


def unpack_kernel(bzimage: bytes) -> bytes:
    """The ELF kernel inside a bzImage, or the image as it is where there is none (other architectures)."""
    for magic, unpack in _PAYLOADS:
        start = bzimage.find(magic)
        while start >= 0:
            try:
                kernel = unpack(bzimage[start:])
            except (lzma.LZMAError, zlib.error):
                kernel = b""
            if kernel.startswith(b"\x7fELF"):
                return kernel
            start = bzimage.find(magic, start + 1)
    return bzimage


def find_kernel(root: Path) -> tuple[str, Path]:
    """Release and path of the newest kernel in a root file system."""
    kernels = sorted((root / "boot").glob("vmlinuz-*"))
    if not kernels:
        raise InfrastructureError(
            f"the image has no kernel in {root / 'boot'}; does the recipe name a package?"
        )
    return kernels[-1].name.removeprefix("vmlinuz-"), kernels[-1]


def module_files(root: Path, release: str, modules: tuple[str, ...]) -> list[Path]:
    """Files to load for `modules`, dependencies first, as paths inside the root file system."""
    ordered: list[Path] = []
    for module in modules:
        command = ["chroot", str(root), "modprobe", "-S", release, "--show-depends", module]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise InfrastructureError(f"the image's kernel has no module {module}: {result.stderr.strip()}")
        for line in result.stdout.splitlines():
            verb, _, rest = line.strip().partition(" ")
            path = Path(rest.split()[0]) if verb == "insmod" else None
            if path and path not in ordered:
                ordered.append(path)
    return ordered


class CpioArchive:
    """Writes the newc format that the kernel unpacks (Documentation/driver-api/early-userspace)."""

    def __init__(self) -> None:
        self._out = io.BytesIO()
        self._inode = 0

    def add(self, name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        """Append one member; `mode` includes the file type."""
        self._inode += 1
        encoded = name.encode() + b"\0"
        links = 2 if stat.S_ISDIR(mode) else 1
        fields = (self._inode, mode, 0, 0, links, 0, len(data), 0, 0, *device, len(encoded), 0)
        self._out.write(b"070701" + b"".join(b"%08X" % field for field in fields) + encoded)
        self._pad()
        self._out.write(data)
        self._pad()

    def close(self) -> bytes:
        """End the archive and return it."""
        self.add("TRAILER!!!", 0)
        return self._out.getvalue()

    def _pad(self) -> None:
        self._out.write(b"\0" * (-self._out.tell() % _CPIO_ALIGNMENT))


def make_initrd(root: Path, init: bytes, modules: list[Path]) -> bytes:
    """The initrd: `init`, busybox from the image, and modules in loading order."""
    archive = CpioArchive()
    for folder in ("bin", "dev", "proc", "sys", "root", "modules"):
        archive.add(folder, stat.S_IFDIR | 0o755)
    # Before devtmpfs is mounted, init's own output goes here.
    archive.add("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    archive.add("bin/busybox", stat.S_IFREG | 0o755, (root / "bin/busybox").read_bytes())
    for path in modules:
        archive.add(f"modules/{path.name}", stat.S_IFREG | 0o644, (root / path.relative_to("/")).read_bytes())
    order = "".join(f"{path.name}\n" for path in modules)
    archive.add("modules/order", stat.S_IFREG | 0o644, order.encode())
    archive.add("init", stat.S_IFREG | 0o755, init)
    return gzip.compress(archive.close(), compresslevel=1, mtime=0)
