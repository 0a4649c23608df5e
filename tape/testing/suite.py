"""The checks that fit one device, and what became of each."""

from __future__ import annotations

from collections.abc import Mapping

from tape.errors import TapeError
from tape.identity import DeviceKind, identify
from tape.testing.base import Cannot, Check, ConformanceError, SkippedCheck
from tape.testing.changers import CHANGER_CHECKS
from tape.testing.drives import DRIVE_CHECKS, check_drive_identity
from tape.transport import Transport

__all__ = ["FAILED", "OVERWRITING", "PASSED", "SKIPPED", "run"]

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
OVERWRITING = tuple(check for check in DRIVE_CHECKS if check is not check_drive_identity)
"""The checks after which nothing is left of what was on the cartridge."""


def run(
    transport: Transport, cannot: Mapping[Cannot, str], without: Mapping[Check, str]
) -> dict[str, tuple[str, str]]:
    """Make the checks that fit a device; name -> passed, failed or skipped, and why.

    Args:
        transport: the device.
        cannot: what its kind is known not to do, and why.
        without: checks that are not to be made, and why.

    Raises:
        TapeError: the device does not say who it is.

    """
    checks = {DeviceKind.DRIVE: DRIVE_CHECKS, DeviceKind.CHANGER: CHANGER_CHECKS}
    return {
        check.__name__: (SKIPPED, without[check]) if check in without else _outcome(check, transport, cannot)
        for check in checks.get(identify(transport).kind, ())
    }


def _outcome(check: Check, transport: Transport, cannot: Mapping[Cannot, str]) -> tuple[str, str]:
    try:
        check(transport, cannot)
    except SkippedCheck as reason:
        return SKIPPED, str(reason)
    except (ConformanceError, TapeError) as error:
        return FAILED, str(error)
    return PASSED, ""
