"""One member's headers: the `x` header, `L` and `K` where needed, and the ustar block itself."""

import os

from appliance.archive.attributes import Identities
from appliance.archive.errors import ArchiveUsageError
from appliance.archive.kinds import DUMPDIR_FLAG
from appliance.archive.pax import RECORDS_BYTES_MAX, extended_header, guarded, record, time_record
from appliance.archive.quick import Owners
from appliance.archive.ustar import (
    GNU_MAGIC,
    NAME_BYTES,
    OCTAL_SIZE_MAX,
    POSIX_MAGIC,
    encode_header,
    long_header,
    split_name,
)

__all__ = ["JOB_BYTES_MAX", "MemberEncoder", "check_job"]

# "./PaxHeaders/spanreel-" (22), "-" and 19 digits of offset leave 58 of the 100 bytes of a ustar name.
JOB_BYTES_MAX = 56

_NANOSECONDS = 1_000_000_000
_LINK_BYTES = 100
_NO_DEVICE = (0, 0)


def check_job(job: str) -> bytes:
    """Return a job's name as it stands in header names; raises `ArchiveUsageError` if it cannot."""
    encoded = job.encode("ascii", "replace")
    if (
        not encoded
        or len(encoded) > JOB_BYTES_MAX
        or not all(c in b"-_." or chr(c).isalnum() for c in encoded)
    ):
        raise ArchiveUsageError(f"a job is 1 to {JOB_BYTES_MAX} of letters, digits, '-', '_', '.': {job!r}")
    return encoded


def _is_text(name: bytes) -> bool:
    """Tell whether `name` is UTF-8: only then do both GNU tar and bsdtar take it from a pax record."""
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


class MemberEncoder:
    """Encodes the headers of one part's members."""

    def __init__(self, job: str) -> None:
        self.job = job
        self.job_name = check_job(job)
        self._identities = Identities()

    @property
    def owners(self) -> Owners:
        """The owner fields of headers that were needed so far, of owners that need no records."""
        return self._identities.plain

    def encode(
        self,
        offset: int,
        name: bytes,
        flag: bytes,
        status: os.stat_result,
        *,
        size: int = 0,
        link: bytes = b"",
        records: bytes = b"",
    ) -> bytes:
        """Return all header blocks of the member that stands at `offset` in the image.

        `size` is what is stored of it, in bytes; `records` are further pax records.  Raises
        `ArchiveUsageError` if these are more than a reader takes (`pax.RECORDS_BYTES_MAX`).
        """
        time_ns = status.st_mtime_ns
        owner, owner_records = self._identities.fields(status.st_uid, status.st_gid)
        records = time_record(time_ns) + owner_records + records
        long_headers = b""
        magic = GNU_MAGIC if flag == DUMPDIR_FLAG else POSIX_MAGIC
        prefix = b""
        if len(name) > NAME_BYTES:
            split = None if magic is GNU_MAGIC else split_name(name)
            if split is not None:
                prefix, name = split
            elif _is_text(name):
                records += record(b"path", name)
            else:
                long_headers = long_header(b"L", name)
        if len(link) > _LINK_BYTES:
            if _is_text(link):
                records += record(b"linkpath", link)
            else:
                long_headers += long_header(b"K", link)
        if size > OCTAL_SIZE_MAX:
            records += record(b"size", b"%d" % size)
            size = 0
        records = guarded(records, long_headers)
        if len(records) > RECORDS_BYTES_MAX:
            raise ArchiveUsageError(f"{len(records)} bytes of extended attributes")
        device = _NO_DEVICE
        if flag in (b"3", b"4"):
            device = os.major(status.st_rdev), os.minor(status.st_rdev)
        seconds = time_ns // _NANOSECONDS
        header = encode_header(
            name,
            flag,
            size,
            mode=status.st_mode & 0o7777,
            owner=owner,
            mtime=seconds if 0 <= seconds <= OCTAL_SIZE_MAX else 0,
            link=link,
            prefix=prefix,
            device=device,
            magic=magic,
        )
        return b"%b%b%b" % (extended_header(self.job_name, offset, records), long_headers, header)
