"""How fast this host's time stamp counter runs; an emulated machine counts with the same one.

A guest that boots on a busy host measures it wrong now and then (once by a factor of a hundred: its clock
then ran away, and nothing in it worked).  So the lab measures it in peace and tells the guests.
"""

from __future__ import annotations

import ctypes
import mmap
import re
import time
from collections.abc import Callable
from pathlib import Path

# rdtsc; shl rdx, 32; or rax, rdx; ret
_READ_TSC = bytes.fromhex("0f31 48c1e220 4809d0 c3")
# Over a tenth of a second an error of 10 us is 100 ppm; the guest refines it by itself below one percent.
_INTERVAL_SECONDS = 0.1
# Of several measurements the one least disturbed counts.
_TRIES = 3


def tsc_khz() -> int | None:
    """Frequency of the counter in kHz, None where it cannot be told (the guest then measures)."""
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    except OSError:
        # A hardened kernel grants no writable code; the processor's nominal speed is near enough, mostly.
        return _nominal_khz()
    page.write(_READ_TSC)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    read = ctypes.CFUNCTYPE(ctypes.c_uint64)(address)
    return sorted(_measure(read) for _ in range(_TRIES))[_TRIES // 2]


def _measure(read: Callable[[], int]) -> int:
    started, first = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW), read()
    time.sleep(_INTERVAL_SECONDS)
    ended, last = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW), read()
    return int((last - first) * 1_000_000 / (ended - started))


def _nominal_khz(cpuinfo: Path = Path("/proc/cpuinfo")) -> int | None:
    match = re.search(r"^cpu MHz\s*: ([0-9.]+)$", cpuinfo.read_text(), re.MULTILINE)
    return int(float(match[1]) * 1000) if match else None
