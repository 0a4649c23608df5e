"""Whether virtual machines get hardware help."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from harness.errors import UsageError

# Set to 0 or 1 to overrule what is found here.
OVERRIDE = "SPANREEL_KVM"


def use_kvm(cpuinfo: Path = Path("/proc/cpuinfo"), device: Path = Path("/dev/kvm")) -> bool:
    """Whether to use KVM.

    That /dev/kvm opens proves nothing: on some hosts it does, and a stock kernel then hangs.  The
    processor must say that it can (svm, vmx); ARM has no such flag.
    """
    setting = os.environ.get(OVERRIDE, "")
    if setting in ("0", "1"):
        return setting == "1"
    if setting:
        raise UsageError(f"{OVERRIDE}={setting} is not allowed", hint="0 or 1, or leave it out")
    if not device.exists():
        return False
    if platform.machine() == "aarch64":
        return True
    flags = cpuinfo.read_text().split()
    return "svm" in flags or "vmx" in flags
