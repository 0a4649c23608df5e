"""mhvtl's configuration of a topology's libraries, and the script that makes cartridges."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from harness import virtualtape
from harness.topology import Library

SCRIPT = Path(__file__).resolve().parents[3] / "ansible/roles/virtual_tape/files/spanreel-mhvtl-media"

LIBRARY = Library(
    node="media1",
    transport="mhvtl",
    changer="MHVLIB0001",
    drives=("MHVDRV0001", "MHVDRV0002"),
    slots=("MHV001L8", "MHV002L7", "CLN001L8"),
    writable=("MHV001L8",),
    first_slot=1000,
    capacity_mib=300,
)
"""Two generations that one drive writes, and a cleaning cartridge."""

DEVICES = """\
VERSION: 5

Library: 10 CHANNEL: 00 TARGET: 00 LUN: 00
 Vendor identification: STK
 Product identification: L700
 Unit serial number: MHVLIB0001
 NAA: 10:22:33:44:d1:6e:cb:1d
 Home directory: /var/lib/mhvtl
 PERSIST: False
 Backoff: 400

Drive: 11 CHANNEL: 00 TARGET: 01 LUN: 00
 Library ID: 10 Slot: 01
 Vendor identification: IBM
 Product identification: ULT3580-TD8
 Product revision level: 2160
 Unit serial number: MHVDRV0001
 NAA: 10:22:33:44:19:e1:51:5b
 Compression: factor 1 enabled 1
 Compression type: lzo
 Backoff: 400

Drive: 12 CHANNEL: 00 TARGET: 02 LUN: 00
 Library ID: 10 Slot: 02
 Vendor identification: IBM
 Product identification: ULT3580-TD8
 Product revision level: 2160
 Unit serial number: MHVDRV0002
 NAA: 10:22:33:44:dc:c5:38:6e
 Compression: factor 1 enabled 1
 Compression type: lzo
 Backoff: 400

"""

CONTENTS = """\
VERSION: 2

Drive 1:
Drive 2:
Picker 1:
MAP 1:
MAP 2:
MAP 3:
MAP 4:
Slot 1: MHV001L8
Slot 2: MHV002L7
Slot 3: CLN001L8
Slot 4:
Slot 5:
Slot 6:
Slot 7:
"""

MEDIA = """\
10 MHV001L8 300 data LTO8
10 MHV002L7 300 data LTO7
10 CLN001L8 300 clean LTO8
"""


def test_one_library() -> None:
    """device.conf, library_contents and the list of cartridges are what mhvtl 1.8 was seen to take."""
    assert virtualtape.files([LIBRARY]) == {
        "/etc/mhvtl/device.conf": DEVICES,
        "/etc/mhvtl/library_contents.10": CONTENTS,
        "/etc/mhvtl/mhvtl.conf": "MHVTL_HOME_PATH=/var/lib/mhvtl\nCAPACITY=300\nVERBOSE=0\nVTL_DEBUG=0\n",
        "/etc/mhvtl/spanreel-media": MEDIA,
    }


@pytest.mark.parametrize(("drives", "second"), [(1, 20), (9, 20), (10, 30), (25, 40)])
def test_several_libraries_share_neither_numbers_nor_targets(drives: int, second: int) -> None:
    """However many drives the first has, no library or drive of the second has a number or place of its."""
    many = replace(LIBRARY, drives=tuple(f"D{number}" for number in range(drives)))
    other = replace(LIBRARY, changer="MHVLIB0002", drives=("E1", "E2"))
    made = virtualtape.files([many, other])
    assert {f"/etc/mhvtl/library_contents.{number}" for number in (10, second)} <= set(made)
    found = re.findall(
        r"^(?:Library|Drive): (\d+) CHANNEL: 00 TARGET: (\d+)", made["/etc/mhvtl/device.conf"], re.M
    )
    numbers, targets = [int(number) for number, _ in found], [int(target) for _, target in found]
    assert numbers[-3:] == [second, second + 1, second + 2]
    assert len(set(numbers)) == len(numbers) == drives + 4
    assert targets == list(range(drives + 4))


def test_more_devices_than_targets_are_refused() -> None:
    """They would share places on the bus."""
    many = replace(LIBRARY, drives=tuple(f"D{number}" for number in range(256)))
    with pytest.raises(ValueError, match="257 devices"):
        virtualtape.files([many])


@pytest.fixture
def mhvtl(tmp_path: Path) -> dict[str, str]:
    """A folder of configuration, and a `mktape` that makes a folder, or fails for one barcode half way."""
    tool = tmp_path / "bin/mktape"
    tool.parent.mkdir()
    tool.write_text(
        "#!/bin/sh\n"
        "while [ $# -gt 0 ]; do case $1 in -H) home=$2;; -m) tape=$2;; esac; shift; done\n"
        'mkdir "$home/$tape"\n'
        '[ "$tape" != BAD ] || { echo no such density; exit 1; }\n'
    )
    tool.chmod(0o755)
    (tmp_path / "mhvtl.conf").write_text(f"CAPACITY=1\nMHVTL_HOME_PATH={tmp_path}/home\n")
    return {"PATH": f"{tool.parent}:{os.environ['PATH']}"}


def make(folder: Path, environment: dict[str, str], *barcodes: str) -> subprocess.CompletedProcess[str]:
    """Declare cartridges and have them made."""
    lines = [f"10 {barcode} 5 data LTO8\n" for barcode in barcodes]
    (folder / "spanreel-media").write_text("".join(lines))
    return subprocess.run(
        ["sh", str(SCRIPT), str(folder)], capture_output=True, text=True, env=environment, check=False
    )


def test_cartridges_are_made_once(tmp_path: Path, mhvtl: dict[str, str]) -> None:
    """Only what is not there is made and named; what is on a cartridge stays."""
    assert make(tmp_path, mhvtl, "A1", "A2").stdout.split() == ["A1", "A2"]
    (tmp_path / "home/A1/data").write_text("backup")
    assert make(tmp_path, mhvtl, "A1", "A2", "A3").stdout.split() == ["A3"]
    assert (tmp_path / "home/A1/data").read_text() == "backup"


def test_half_a_cartridge_does_not_stay(tmp_path: Path, mhvtl: dict[str, str]) -> None:
    """One that cannot be made ends the script, with mktape's words, and is not taken for a whole one."""
    made = make(tmp_path, mhvtl, "BAD", "A2")
    assert made.returncode == 1
    assert "BAD: no such density" in made.stderr
    assert not (tmp_path / "home/BAD").exists()
