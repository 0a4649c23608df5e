"""Promises of discovery and of the diagnostic on top of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tape_support import CHANGER, DRIVE, loaded

from tape.discovery import Device, discover
from tape.identity import DeviceKind
from tape.inquiry import main
from tape.model import LibraryModel

REPOSITORY = Path(__file__).parents[3]


def test_addresses_and_the_changers_driver(tmp_path: Path) -> None:
    """The address is the name behind the link; /dev/schN is found beside it."""
    real = tmp_path / "devices" / "2:0:0:3"
    (real / "scsi_changer" / "sch0").mkdir(parents=True)
    for name, text in {"type": "8", "vendor": "STK", "model": "L700", "rev": "1"}.items():
        (real / name).write_text(text)
    node = tmp_path / "class" / "scsi_generic" / "sg4"
    node.mkdir(parents=True)
    (node / "device").symlink_to(real)
    (changer,) = discover(tmp_path)
    assert (changer.address, changer.sch, changer.st) == ("2:0:0:3", "/dev/sch0", None)


def add(root: Path, node: str, kind: int, serial: bytes | None = None, st: str | None = None) -> Path:
    """Make a SCSI device as sysfs shows it."""
    scsi = root / "class" / "scsi_generic" / node / "device"
    scsi.mkdir(parents=True)
    for name, text in {"type": f"{kind}\n", "vendor": "HP      \n", "model": "Ultrium 5-SCSI  \n"}.items():
        (scsi / name).write_text(text)
    (scsi / "rev").write_text("Z61W\n")
    if serial is not None:
        (scsi / "vpd_pg80").write_bytes(bytes([kind, 0x80]) + len(serial).to_bytes(2, "big") + serial)
    if st is not None:
        for suffix in ("", "a", "l", "m"):
            (scsi / "scsi_tape" / f"n{st}{suffix}").mkdir(parents=True)
            (scsi / "scsi_tape" / f"{st}{suffix}").mkdir(parents=True)
    return scsi


def test_drives_and_changers_are_found(tmp_path: Path) -> None:
    """Identity without padding, the st node, numeric order; disks and tgt's controller are left out."""
    add(tmp_path, "sg10", 8, b"MHVLIB0001\0\0  ")
    add(tmp_path, "sg2", 1, b" " * 26 + b"TGTDRV0001", st="st4")
    add(tmp_path, "sg0", 0, b"DISK")
    add(tmp_path, "sg1", 12, b"CONTROLLER")
    drive, changer = discover(tmp_path)
    assert drive == Device(
        "/dev/sg2", DeviceKind.DRIVE, "HP", "Ultrium 5-SCSI", "Z61W", "TGTDRV0001", "/dev/st4"
    )
    assert (changer.sg, changer.kind, changer.serial, changer.st) == (
        "/dev/sg10",
        "changer",
        "MHVLIB0001",
        None,
    )


@pytest.mark.parametrize("page", [None, b"", b"\x01\x83\x00\x02xx"])
def test_a_device_without_serial_has_an_empty_one(tmp_path: Path, page: bytes | None) -> None:
    """A missing or foreign page is no error."""
    scsi = add(tmp_path, "sg0", 1)
    if page is not None:
        (scsi / "vpd_pg80").write_bytes(page)
    assert discover(tmp_path)[0].serial == ""


def test_a_device_that_vanishes_is_left_out(tmp_path: Path) -> None:
    """What is half gone, or odd, does not hide the rest."""
    (add(tmp_path, "sg0", 1) / "vendor").unlink()
    (add(tmp_path, "sg1", 1) / "type").write_text("what\n")
    add(tmp_path, "sg2", 1)
    assert [device.sg for device in discover(tmp_path)] == ["/dev/sg2"]


def test_a_machine_without_scsi_has_no_devices(tmp_path: Path) -> None:
    """No sg module, no devices, no error."""
    assert discover(tmp_path) == []


@pytest.fixture
def library(tmp_path: Path) -> LibraryModel:
    """A library whose first drive is loaded."""
    return loaded(tmp_path)


def test_the_diagnostic_shows_kind_identity_and_readiness(
    library: LibraryModel, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line for each device named."""
    assert main([DRIVE, CHANGER, "DRV0002"], library.transport) == 0
    drive, changer, empty = capsys.readouterr().out.splitlines()
    library.close()
    assert drive == "model:DRV0001  drive    SPANREEL VIRTUAL DRIVE  revision 0001  serial DRV0001  ready"
    assert changer.startswith("model:LIB0001  changer  SPANREEL VIRTUAL LIBRARY")
    assert empty.endswith("not ready: NOT READY 02/3a/00: medium not present")


def test_the_diagnostic_goes_on_after_an_error(
    library: LibraryModel, capsys: pytest.CaptureFixture[str]
) -> None:
    """A node that cannot be asked is told on stderr, the others are still shown, and the code is 1."""
    assert main(["NOSUCH", DRIVE], library.transport) == 1
    library.close()
    out, err = capsys.readouterr()
    assert "serial DRV0001" in out
    assert "NOSUCH" in err


def test_the_diagnostic_runs_from_a_checkout() -> None:
    """`python -m tape.inquiry` needs nothing but the standard library: -I -S leaves out all else."""
    program = (
        f"import sys, runpy; sys.path.insert(0, {str(REPOSITORY)!r});"
        "runpy.run_module('tape.inquiry', run_name='__main__', alter_sys=True)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-W", "error", "-c", program, "/nonexistent/sg0"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1)
    assert "no such device node" in done.stderr
