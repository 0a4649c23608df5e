"""A tape library on the host: tgt (Debian's package) in the lab's network namespace.

A foreign emulator, so it keeps ours honest; its faults are known and listed in docs/.  Two of them shape
this module: the serial of the last drive element is cut short, so one dummy drive element follows the
real ones; and it logs a line for every READ, so its log goes nowhere.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness import netns
from harness.errors import InfrastructureError
from harness.providers.libvirt.domain import ScsiUnit
from harness.providers.libvirt.names import ISCSI_PORT
from harness.topology import Library

# Element addresses of a real L700, the model that is emulated; slots begin where the topology says.
PICKER_ADDRESS = 1
FIRST_DRIVE_ADDRESS = 256
FIRST_MAIL_SLOT = 768
MAIL_SLOTS = 4
PORTAL = "127.0.0.1"
# The daemon answers within 0.1 s; the bound is for a machine that is very busy.
_START_SECONDS = 15.0
_POLL_SECONDS = 0.05

Command = list[str]


@dataclass(frozen=True)
class Target:
    """A library as an iSCSI target."""

    number: int
    name: str
    library: Library
    tapes: Path

    @property
    def changer_lun(self) -> int:
        """Drives are units 1 to N, the changer is the next."""
        return len(self.library.drives) + 1

    def units(self) -> list[ScsiUnit]:
        """Every logical unit, drives and changer, for the hypervisor to attach."""
        return [ScsiUnit(self.name, lun, PORTAL, ISCSI_PORT) for lun in range(1, self.changer_lun + 1)]

    def image_commands(self) -> Iterator[Command]:
        """Commands that make what is not there: cartridges keep their contents between runs."""
        if not (self.tapes / "notape").exists():
            yield _image("", 1, "clean", self.tapes / "notape")
        for barcode in self.library.slots:
            if not (self.tapes / barcode).exists():
                yield _image(barcode, self.library.capacity_mib, "data", self.tapes / barcode)

    def admin_commands(self) -> Iterator[Command]:
        """What describes the library to the daemon, as arguments of tgtadm."""
        yield self._op("new", "target", f"--targetname={self.name}")
        for lun, serial in enumerate(self.library.drives, start=1):
            backing = str(self.tapes / "notape")
            yield self._op("new", "logicalunit", f"--lun={lun}", "-b", backing, "--device-type=tape")
            # The model and an empty drive: cartridges come from the changer.
            yield self._parameters(
                lun,
                f"vendor_id=HP,product_id=Ultrium 5-SCSI,product_rev=Z61W,scsi_sn={serial},"
                "removable=1,online=0",
            )
        changer, smc = f"--lun={self.changer_lun}", str(self.tapes / "smc")
        yield self._op("new", "logicalunit", changer, "-b", smc, "--device-type=changer")
        yield self._changer(
            f"vendor_id=STK,product_id=L700,product_rev=0010,scsi_sn={self.library.changer},"
            f"removable=1,media_home={self.tapes}"
        )
        yield from self._elements()
        yield self._op("bind", "target", "-I", "ALL")

    def _elements(self) -> Iterator[Command]:
        drives, slots = len(self.library.drives), len(self.library.slots)
        yield self._changer(f"element_type=1,start_address={PICKER_ADDRESS},quantity=1")
        yield self._changer(f"element_type=4,start_address={FIRST_DRIVE_ADDRESS},quantity={drives + 1}")
        for lun in range(1, drives + 1):
            address = FIRST_DRIVE_ADDRESS + lun - 1
            yield self._changer(f"element_type=4,address={address},tid={self.number},lun={lun}")
        # Room to move cartridges about: a few slots stay empty.
        first = self.library.first_slot
        yield self._changer(f"element_type=2,start_address={first},quantity={slots + MAIL_SLOTS}")
        yield self._changer(f"element_type=3,start_address={FIRST_MAIL_SLOT},quantity={MAIL_SLOTS}")
        for address, barcode in enumerate(self.library.slots, start=first):
            yield self._changer(f"element_type=2,address={address},barcode={barcode},sides=1")

    def _op(self, verb: str, mode: str, *rest: str) -> Command:
        return ["--lld", "iscsi", "--op", verb, "--mode", mode, f"--tid={self.number}", *rest]

    def _parameters(self, lun: int, parameters: str) -> Command:
        return self._op("update", "logicalunit", f"--lun={lun}", "--params", parameters)

    def _changer(self, parameters: str) -> Command:
        return self._parameters(self.changer_lun, parameters)


def _image(barcode: str, mebibytes: int, kind: str, file: Path) -> Command:
    return [
        "tgtimg",
        "--op",
        "new",
        "--device-type",
        "tape",
        f"--barcode={barcode}",
        f"--size={mebibytes}",
        f"--type={kind}",
        f"--file={file}",
    ]


class TapeDaemon:
    """One tgtd in a network namespace, with a control socket of its own."""

    # The control socket's path ends in this number; with a path of our own any will do.
    _CONTROL = "0"

    def __init__(self, namespace: str, runtime: Path) -> None:
        self._namespace = namespace
        self._socket = runtime / "tgtd"
        self._environment = {**os.environ, "TGT_IPC_SOCKET": str(self._socket)}

    def running(self) -> bool:
        """Whether the daemon answers."""
        return self._try(["--op", "show", "--mode", "system"]).returncode == 0

    def start(self, targets: list[Target]) -> None:
        """Start the daemon and describe the libraries; a daemon that runs is kept as it is."""
        if self.running():
            return
        Path(f"{self._socket}.{self._CONTROL}").unlink(missing_ok=True)
        command = ["tgtd", "-f", "-C", self._CONTROL, "--iscsi", f"portal={PORTAL}:{ISCSI_PORT}"]
        process = subprocess.Popen(
            netns.argv_inside(self._namespace, command),
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + _START_SECONDS
        while not self.running():
            if process.poll() is not None or time.monotonic() > deadline:
                raise InfrastructureError(
                    "tgtd did not start", hint=f"try: {' '.join(netns.argv_inside(self._namespace, command))}"
                )
            time.sleep(_POLL_SECONDS)
        # It outlives us: nobody will wait for this object.
        process.returncode = 0
        for target in targets:
            self._configure(target)

    def stop(self) -> None:
        """End the daemon.  A signal alone does not end it while a target is configured."""
        if not self.running():
            return
        shown = self._try(["--op", "show", "--mode", "target"]).stdout
        for line in shown.splitlines():
            if line.startswith("Target "):
                number = line.split()[1].rstrip(":")
                self._try(
                    ["--lld", "iscsi", "--mode", "target", "--op", "delete", "--force", f"--tid={number}"]
                )
        self._try(["--op", "delete", "--mode", "system"])

    def _configure(self, target: Target) -> None:
        target.tapes.mkdir(parents=True, exist_ok=True)
        (target.tapes / "smc").write_bytes(bytes(1024))
        for command in target.image_commands():
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            _require(result, command)
        for command in target.admin_commands():
            _require(self._try(command), ["tgtadm", *command])

    def _try(self, arguments: Command) -> subprocess.CompletedProcess[str]:
        command = ["tgtadm", "-C", self._CONTROL, *arguments]
        return subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)


def _require(result: subprocess.CompletedProcess[str], command: Command) -> None:
    # tgtadm reports some errors with exit code 0.
    if result.returncode != 0 or result.stderr.strip():
        words = (result.stderr or result.stdout).strip()
        raise InfrastructureError(f"the tape library could not be made: `{' '.join(command)}`: {words}")
