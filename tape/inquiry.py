"""Show tape devices: `python -m tape.inquiry [/dev/sgN ...]`.  Without a node, all that sysfs knows.

The first thing to run on a new machine: it asks each device itself, so it also proves that SG_IO works.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from tape.discovery import discover
from tape.drive import Drive
from tape.errors import DeviceError, TapeError
from tape.identity import DeviceKind, Identity
from tape.sg import SgTransport
from tape.transport import Transport

__all__ = ["describe", "main"]

# Nobody wants to wait for a drive that is loading when all he asked is what is there.
READY_TIMEOUT_S = 0.0


def describe(transport: Transport) -> str:
    """Return one line about a device: node, kind, identity, and whether it is ready.

    Raises:
        DeviceError: it does not answer INQUIRY.

    """
    drive = Drive(transport)
    identity = drive.identify()
    return f"{transport.name}  {_identity_text(identity)}  {_readiness(drive, identity)}".rstrip()


def _identity_text(identity: Identity) -> str:
    serial = identity.serial or "(none)"
    names = f"{identity.vendor} {identity.product}"
    return f"{identity.kind:<7}  {names}  revision {identity.revision}  serial {serial}"


def _readiness(drive: Drive, identity: Identity) -> str:
    """Say what TEST UNIT READY says, for the kinds of device that are ours."""
    if identity.kind is DeviceKind.OTHER:
        return ""
    try:
        drive.wait_ready(READY_TIMEOUT_S)
    except DeviceError as error:
        return f"not ready: {error.sense.text if error.sense else error.what}"
    return "ready"


def main(
    arguments: Sequence[str] | None = None,
    open_transport: Callable[[str], Transport] = SgTransport,
) -> int:
    """Print a line for each device; return 0, or 1 if one of them could not be asked or none is there.

    Args:
        arguments: nodes; the command line's if None.
        open_transport: how to reach a node; tests pass a library of their own.

    """
    given = sys.argv[1:] if arguments is None else arguments
    nodes = list(given) or [device.sg for device in discover()]
    if not nodes:
        sys.stderr.write("no tape drive or changer found; is the module sg loaded?\n")
        return 1
    failed = False
    for node in nodes:
        try:
            with open_transport(node) as transport:
                sys.stdout.write(describe(transport) + "\n")
        except TapeError as error:
            sys.stderr.write(f"{error}\n")
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
