"""Running a piece of a test in a process of its own: as a plain user, on a file system that only it sees.

A file system is made in a file, and mounted on a loop device in a private mount namespace: it is gone when
the process ends, however it ends.
"""

import contextlib
import ctypes
import os
import pickle
import shutil
import subprocess
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

IS_ROOT = os.geteuid() == 0
NOBODY = 65534
_CLONE_NEWNS = 0x20000
_MS_REC_PRIVATE = 0x4000 | (1 << 18)

# mkfs.xfs wants 300 MiB, mkfs.btrfs 110; they are holes.
_DISK_BYTES = 512 * 1024 * 1024
_MAKE = {
    "ext4": ["mkfs.ext4", "-q", "-F", "-O", "ea_inode"],
    "xfs": ["mkfs.xfs", "-q"],
    "btrfs": ["mkfs.btrfs", "-q"],
}
FILE_SYSTEMS = [*_MAKE, "tmpfs"]


class SkippedError(Exception):
    """Raised in the process: the test cannot be run here, for the reason given."""


def apart(work: Callable[[], Any], *, user: int | None = None) -> Any:
    """Run `work` in a child, as `user` if that is given, and return what it returns.

    What it raises fails the test with the child's traceback.  Skips the test where it raises SkippedError.
    """
    if user is not None and not IS_ROOT:
        pytest.skip("needs root to become somebody else")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _report(writing, work, user)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    how, value = pickle.loads(answer) if answer else ("failed", "the child said nothing")
    if how == "skipped":
        pytest.skip(value)
    assert how == "done", value
    return value


def _report(pipe: int, work: Callable[[], Any], user: int | None) -> None:
    """Run `work` and write how it went; never returns."""
    try:
        try:
            if user is not None:
                become(user)
            answer = "done", work()
        except SkippedError as error:
            answer = "skipped", str(error)
        except BaseException:  # noqa: BLE001  whatever it is, the parent reports it
            answer = "failed", traceback.format_exc()
        with os.fdopen(pipe, "wb") as stream:
            pickle.dump(answer, stream)
    finally:
        os._exit(0)


def become(user: int) -> None:
    """Give up root's rights for good."""
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)


def enter_namespace() -> None:
    """Move this process into a mount namespace of its own, where nothing it mounts is seen outside."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) or libc.mount(b"none", b"/", None, _MS_REC_PRIVATE, None):
        raise SkippedError(f"no mount namespace: {os.strerror(ctypes.get_errno())}")


def mount(kind: str, folder: Path) -> Path:
    """Make a file system and mount it in this process's namespace; return its root."""
    root = folder / "mounted"
    root.mkdir()
    if kind == "tmpfs":
        _run(["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", str(root)])
        return root
    make = _MAKE[kind]
    if shutil.which(make[0]) is None:
        raise SkippedError(f"{make[0]} is not installed")
    disk = folder / "disk"
    with disk.open("wb") as file:
        file.truncate(_DISK_BYTES)
    _run([*make, str(disk)])
    _run(["mount", "-t", kind, "-o", "loop", str(disk), str(root)])
    return root


def bind(source: Path, target: Path) -> None:
    """Bind a directory or file to another place, in this process's namespace."""
    _run(["mount", "--bind", str(source), str(target)])


@contextlib.contextmanager
def reachable() -> Iterator[Path]:
    """A temporary directory that other users can reach.

    Not one of pytest's: every session that begins closes their common parent to all but its own user.
    """
    folder = Path(tempfile.mkdtemp(prefix="spanreel-test-"))
    folder.chmod(0o777)
    try:
        yield folder
    finally:
        subprocess.run(["chmod", "-R", "u+rwX", str(folder)], check=False)
        shutil.rmtree(folder)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SkippedError(f"{command[0]} cannot be used here: {done.stderr.strip()}")
