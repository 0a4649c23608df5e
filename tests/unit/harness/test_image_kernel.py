import gzip
import lzma
import stat

import pytest

from harness.image.kernel import CpioArchive, make_initrd, unpack_kernel

ELF = b"\x7fELF" + bytes(range(256)) * 10


@pytest.mark.parametrize("pack", [lzma.compress, gzip.compress], ids=["xz", "gzip"])
def test_kernel_is_found_inside_a_bzimage(pack):
    """Kernel is found inside a bzimage."""
    # A magic number that is none comes first; bytes of the boot loader follow.
    image = b"MZ" + b"\xfd7zXZ\x00 not really" + b"\x1f\x8b\x08 nor this" + pack(ELF) + b"trailer"
    assert unpack_kernel(image) == ELF


def test_kernel_without_payload_is_kept_as_it_is():
    """Kernel without payload is kept as it is."""
    assert unpack_kernel(b"MZ an arm64 Image") == b"MZ an arm64 Image"


def test_cpio_members_are_aligned_and_end_with_the_trailer():
    """Cpio members are aligned and end with the trailer."""
    archive = CpioArchive()
    archive.add("init", stat.S_IFREG | 0o755, b"abc")
    archive.add("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    data = archive.close()
    assert len(data) % 4 == 0
    assert data.count(b"070701") == 3
    assert b"TRAILER!!!" in data
    # Field 7 is the size of the data, which begins at the next multiple of four after the name.
    assert int(data[54:62], 16) == 3
    assert data[116:119] == b"abc"


def test_initrd_holds_modules_in_loading_order(tmp_path):
    """Initrd holds modules in loading order."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/busybox").write_bytes(b"busybox")
    modules = []
    for name in ("b.ko", "a.ko"):
        (tmp_path / name).write_bytes(b"module " + name.encode())
        modules.append(tmp_path.__class__("/" + name))
    data = gzip.decompress(make_initrd(tmp_path, b"#!/bin/busybox sh\n", modules))
    assert b"b.ko\na.ko\n" in data
    assert data.index(b"module b.ko") < data.index(b"module a.ko")
