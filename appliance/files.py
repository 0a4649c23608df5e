"""Files that survive a crash and secrets that stay secret."""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from appliance.errors import ConfigurationError, InfrastructureError

# Group and others: a secret that they can read is no secret.
_OTHERS_BITS = 0o077

# Keys, passwords and account lists are far smaller; the bound keeps a wrong path (a device, an image)
# from being read into memory.
SECRET_SIZE_MAX = 1024 * 1024


def replace_file(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Put `content` at `path` so that a crash leaves either the old file or the new one, whole.

    Raises InfrastructureError when the directory or disk refuses.
    """
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            _write_synced(descriptor, content, mode)
            Path(name).replace(path)
        except BaseException:
            with suppress(FileNotFoundError):
                Path(name).unlink()
            raise
        sync_directory(path.parent)
    except OSError as error:
        raise InfrastructureError(
            f"cannot write {path}: {error.strerror}; check space and rights there"
        ) from error


def _write_synced(descriptor: int, content: bytes, mode: int) -> None:
    with os.fdopen(descriptor, "wb") as stream:
        # mkstemp made the file 0600, so widening comes last and a secret is never readable in between.
        stream.write(content)
        stream.flush()
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)


def sync_directory(directory: Path) -> None:
    """Make renames in `directory` durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_secret(path: Path) -> None:
    """Raise ConfigurationError unless `path` is a regular file that only its owner can read."""
    _open_secret(path).close()


def read_secret(path: Path) -> bytes:
    """Return the content of a file that only its owner may read.

    Raises ConfigurationError when it is missing, no regular file, too large, or readable by others.
    """
    with _open_secret(path) as stream:
        content = stream.read(SECRET_SIZE_MAX + 1)
    if len(content) > SECRET_SIZE_MAX:
        raise ConfigurationError(f"{path}: larger than {SECRET_SIZE_MAX} bytes; this is no secrets file")
    return content


def _open_secret(path: Path) -> BinaryIO:
    try:
        # Non-blocking, so that a FIFO in the place of the file cannot hang the caller.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot read this secret: {error.strerror}") from error
    try:
        _check_secret_status(path, os.fstat(descriptor))
    except ConfigurationError:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def _check_secret_status(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ConfigurationError(f"{path}: a secret must be a regular file")
    mode = stat.S_IMODE(status.st_mode)
    if mode & _OTHERS_BITS:
        raise ConfigurationError(f"{path}: mode is {mode:04o}, a secret must be 0600; run `chmod 600 {path}`")
