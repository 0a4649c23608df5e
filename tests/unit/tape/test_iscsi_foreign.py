"""A foreign initiator against our iSCSI target: libiscsi, which is what QEMU attaches units with."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from iscsi_support import TARGET
from libiscsi import LIBRARY, LibiscsiTransport
from tape_support import CAPACITY, CHANGER, DRIVE, loaded, spec

from tape import errors
from tape.commands import REPORT_LUNS
from tape.drive import Drive
from tape.iscsi import IscsiServer, ModelUnits
from tape.model import LibraryModel
from tape.sense import Sense, SenseKey
from tape.testing import CHANGER_CHECKS, DRIVE_CHECKS, Check, check_end_of_tape
from tape.transport import ScsiStatus

CHANGER_LUN = 3
TOOL_SECONDS = 30

needs_library = pytest.mark.skipif(LIBRARY is None, reason="libiscsi is not installed (Debian: libiscsi7)")
needs_tools = pytest.mark.skipif(
    not shutil.which("iscsi-ls"), reason="iscsi-ls is not installed (Debian: libiscsi-bin)"
)


def session(server: IscsiServer, lun: int, initiator: str = "iqn.2026-11.test:foreign") -> LibiscsiTransport:
    """A session of libiscsi to one unit."""
    return LibiscsiTransport(server.address, TARGET, lun, initiator)


def url(server: IscsiServer, rest: str = "") -> str:
    """How the tools name a target."""
    return f"iscsi://{server.address[0]}:{server.address[1]}{rest}"


def tool(*command: str) -> subprocess.CompletedProcess[str]:
    """Run one of libiscsi's or QEMU's tools."""
    return subprocess.run(command, capture_output=True, text=True, timeout=TOOL_SECONDS, check=False)


@needs_library
@pytest.mark.parametrize("check", DRIVE_CHECKS, ids=lambda check: check.__name__)
def test_a_drive_keeps_its_promises_behind_iscsi(server: IscsiServer, check: Check) -> None:
    """Every drive check holds through libiscsi: data, residuals and sense arrive as in process."""
    with session(server, 1) as transport:
        check(transport, frozenset())


@needs_library
@pytest.mark.parametrize("check", CHANGER_CHECKS, ids=lambda check: check.__name__)
def test_a_changer_keeps_its_promises_behind_iscsi(server: IscsiServer, check: Check) -> None:
    """Every changer check holds through libiscsi."""
    with session(server, CHANGER_LUN) as transport:
        check(transport, frozenset())


@needs_library
def test_the_end_of_the_tape_behind_iscsi(server: IscsiServer) -> None:
    """Early warning and VOLUME OVERFLOW arrive through libiscsi."""
    with session(server, 1) as transport:
        check_end_of_tape(transport, frozenset(), 2 * CAPACITY)


@needs_library
@pytest.mark.parametrize("length", [1, 3, 65_536, 65_537, 1 << 20, (1 << 20) + 5, 4 << 20])
def test_records_of_any_length_arrive_whole(server: IscsiServer, length: int) -> None:
    """Immediate data, unsolicited data, one or several R2Ts, padding: the record comes back as sent."""
    with session(server, 1) as transport:
        drive = Drive(transport)
        drive.wait_ready(0)
        record = bytes(range(251)) * (length // 251 + 1)
        drive.write(record[:length])
        drive.rewind()
        assert drive.read(length) == record[:length]


@needs_library
def test_a_new_session_is_told_by_a_unit_attention(server: IscsiServer) -> None:
    """29/00 comes once to each session, and does not disturb another one."""
    with session(server, 1, "iqn.2026-11.test:first") as first:
        Drive(first).wait_ready(0)
        with session(server, 1, "iqn.2026-11.test:second") as second:
            with pytest.raises(errors.UnitAttentionError) as caught:
                Drive(second).test_ready()
            assert caught.value.sense is not None
            assert caught.value.sense.code == (0x29, 0x00)
            Drive(second).test_ready()
            Drive(first).test_ready()


@needs_library
def test_a_target_of_another_name_is_refused(server: IscsiServer) -> None:
    """A login to a target that is not here fails, as RFC 7143 wants: 0203h, not found."""
    with pytest.raises(errors.TransportError):
        LibiscsiTransport(server.address, "iqn.2026-11.test:other", 1, "iqn.2026-11.test:foreign")


@needs_library
def test_a_restarted_target_serves_the_same_cartridges(tmp_path: Path) -> None:
    """After a restart a new session finds what was written, behind a unit attention."""
    for turn in range(2):
        library = loaded(tmp_path) if turn == 0 else LibraryModel(tmp_path, spec())
        server = IscsiServer(ModelUnits(library), TARGET, ("127.0.0.1", 0))
        server.start()
        with session(server, 1) as transport:
            drive = Drive(transport)
            drive.wait_ready(0)
            if turn == 0:
                drive.write(b"kept")
            else:
                assert drive.read(4) == b"kept"
        server.stop()
        library.close()


@needs_library
@pytest.mark.parametrize("lun", [1, CHANGER_LUN])
def test_every_unit_lists_all_units(server: IscsiServer, lun: int) -> None:
    """REPORT LUNS is answered behind each LUN; in a guest QEMU is in the way (docs/vm-lab.md)."""
    with session(server, lun) as transport:
        for report, listed in ((0x00, [1, 2, 3]), (0x01, []), (0x02, [1, 2, 3])):
            cdb = REPORT_LUNS.cdb(select_report=report, allocation_length=64)
            done = transport.execute(cdb, data_in_length=64)
            assert done.status == ScsiStatus.GOOD
            assert int.from_bytes(done.data[:4], "big") == 8 * len(listed)
            assert [done.data[8 + 8 * index + 1] for index in range(len(listed))] == listed
        # Administrative units are of conglomerates (SPC-5): there are none here.
        for report in (0x10, 0x11, 0x12):
            cdb = REPORT_LUNS.cdb(select_report=report, allocation_length=64)
            sense = Sense.parse(transport.execute(cdb, data_in_length=64).sense)
            assert (sense.key, sense.code) == (SenseKey.ILLEGAL_REQUEST, (0x24, 0x00))


@needs_tools
def test_discovery_lists_the_units(server: IscsiServer) -> None:
    """iscsi-ls finds the target by SendTargets and its units by REPORT LUNS: no device on LUN 0."""
    done = tool("iscsi-ls", "-s", url(server))
    assert done.returncode == 0, done.stderr
    assert f"Target:{TARGET} Portal:127.0.0.1:{server.address[1]},1" in done.stdout
    units = [line.split()[:2] for line in done.stdout.splitlines() if line.startswith("Lun:")]
    assert [lun for lun, _ in units] == ["Lun:1", "Lun:2", "Lun:3"]
    assert [kind.split(":")[1] for _, kind in units] == [
        "SEQUENTIAL_ACCESS",
        "SEQUENTIAL_ACCESS",
        "MEDIA_CHANGER",
    ]


@needs_tools
@pytest.mark.parametrize(("lun", "serial"), [(1, DRIVE), (CHANGER_LUN, CHANGER)])
def test_serial_numbers_behind_iscsi(server: IscsiServer, lun: int, serial: str) -> None:
    """iscsi-inq reads VPD page 80h, by which the media server knows its devices."""
    done = tool("iscsi-inq", "-e", "1", "-c", "128", url(server, f"/{TARGET}/{lun}"))
    assert done.returncode == 0, done.stderr
    assert serial in done.stdout


@pytest.mark.skipif(not shutil.which("qemu-img"), reason="qemu-img is not installed (Debian: qemu-utils)")
def test_qemus_own_driver_opens_a_unit(server: IscsiServer) -> None:
    """QEMU's iscsi driver opens a drive and the changer: it passes them on with scsi-generic."""
    for lun in (1, CHANGER_LUN):
        done = tool("qemu-img", "info", url(server, f"/{TARGET}/{lun}"))
        if "Unknown protocol 'iscsi'" in done.stderr:
            pytest.skip("QEMU's iscsi driver is not installed (Debian: qemu-block-extra)")
        assert done.returncode == 0, done.stderr
        assert '"driver": "iscsi"' in done.stdout
