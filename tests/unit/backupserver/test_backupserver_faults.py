"""What becomes of a job when a drive, a cartridge or the robot fails, by the model's fault scripts."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from dma_support import Site, site

from appliance import configservice
from appliance.backupserver import backup, jobs, leases, media, restore
from appliance.backupserver.cartridge import Tape
from appliance.backupserver.jobs import Job, Status
from appliance.backupserver.labels import Header
from appliance.backupserver.media import MediumState
from appliance.errors import InfrastructureError, JobError
from appliance.mediaserver.open_drive import OpenDrive
from appliance.ndmp.enums import DataHaltReason, TapeFlag
from tape.model.cartridge import Cartridge
from tape.model.faults import CartridgeFault, FaultPlan
from tape.model.faultscript import parse_faults

RECORD = 262144
IMAGE = random.Random(5).randbytes(20 * RECORD + 17)
BROKEN = """
[[fault]]
device = "{drive}"
command = "{command}"
nth = {nth}
times = 0
sense = "hardware error"
"""
FIRST_RECORD = 4
"""Objects before the first segment's data: label, mark, header, mark."""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Site]:
    """A site with a blank library, whose backup server uses both drives."""
    with site(tmp_path, ("DRV1", "DRV2")) as made:
        made.script.image = IMAGE
        yield made


def back_up(lab: Site) -> Job:
    """Run a backup.  The scripted file server remembers a connection that broke, and must not."""
    lab.script.halt = DataHaltReason.SUCCESSFUL
    return backup.run(lab.context, backup.Request((b"/",), "fs1"))


def restored(lab: Site, job: Job) -> bytes:
    """What a restore brings back."""
    lab.script.halt = DataHaltReason.SUCCESSFUL
    result = restore.run(lab.context, restore.Request(job, (), b"/to", "keep", "fs1"))
    assert result.status is not Status.FAILED, lab.output.getvalue()
    return lab.script.received


def script(lab: Site, text: str) -> None:
    """Give the library a fault script."""
    lab.model.faults.extend(parse_faults(text))


def state(lab: Site, barcode: str) -> MediumState:
    """A cartridge's state in the catalogue."""
    return media.media(lab.catalogue)[barcode].state


def problem_lines(lab: Site, job: Job) -> str:
    """The log lines of a job."""
    rows = lab.catalogue.connection.execute("SELECT line FROM problem WHERE job = ?", (job.id,))
    return "\n".join(row["line"].decode() for row in rows)


def test_a_bad_spot_moves_the_image_to_the_next_cartridge(lab: Site) -> None:
    """The job goes on, nothing is written twice or lost, and the cartridge takes no more."""
    lab.model.faults.add(CartridgeFault("T1", medium_error=FIRST_RECORD + 5, on_read=False))
    job = back_up(lab)
    assert job.status is Status.PROBLEMS
    assert [barcode for barcode, _ in job.media] == ["T1", "T2"]
    (image,) = media.images(lab.catalogue, job.id)
    assert [part.length for part in media.segments(lab.catalogue, image)] == [
        5 * RECORD,
        len(IMAGE) - 5 * RECORD,
    ]
    assert (state(lab, "T1"), state(lab, "T2")) == (MediumState.FULL, MediumState.APPENDABLE)
    assert "writing failed behind tape file 2" in media.media(lab.catalogue)["T1"].fault
    assert media.media(lab.catalogue)["T2"].fault == ""
    lines = problem_lines(lab, job)
    assert "drive:DRV1, cartridge T1, position block 9" in lines
    assert "MEDIUM ERROR 03/0c/00" in lines
    assert "clean the drive" in lines
    assert restored(lab, job) == IMAGE


def test_the_next_job_goes_on_with_another_cartridge(lab: Site) -> None:
    """A drive that cannot write ends the job; what was on tape stays, and is not appended to."""
    lab.model.faults.add(CartridgeFault("T1", medium_error=FIRST_RECORD + 5, on_read=False))
    lab.model.faults.add(CartridgeFault("T2", medium_error=FIRST_RECORD + 5, on_read=False))
    with pytest.raises(JobError, match=r"stopped with MEDIA_ERROR \(drive:DRV2, cartridge T2.*MEDIUM ERROR"):
        back_up(lab)
    (failed,) = jobs.list_all(lab.catalogue)
    (image,) = media.images(lab.catalogue, failed.id)
    assert image.length == 10 * RECORD
    assert (state(lab, "T1"), state(lab, "T2")) == (MediumState.FULL, MediumState.FULL)
    assert leases.held(lab.catalogue) == {}
    job = back_up(lab)
    assert (job.status, job.media) == (Status.COMPLETE, (("T3", 2),))
    assert restored(lab, job) == IMAGE


def test_what_a_failed_job_left_is_what_the_catalogue_says(lab: Site) -> None:
    """The records that are counted as kept are on the tape, and are the image's."""
    for drive in ("DRV1", "DRV2"):
        script(lab, BROKEN.format(drive=drive, command="WRITE(6)", nth=8))
    with pytest.raises(JobError, match="HARDWARE ERROR"):
        back_up(lab)
    (failed,) = jobs.list_all(lab.catalogue)
    (image,) = media.images(lab.catalogue, failed.id)
    # Label and header were the first two writes, in either drive.
    assert [part.length for part in media.segments(lab.catalogue, image)] == [5 * RECORD, 5 * RECORD]
    assert image.length == 10 * RECORD
    cartridge = Cartridge(lab.folder / "library" / "T1.tape")
    kept = b"".join(cartridge.read(FIRST_RECORD + i, RECORD) for i in range(5))
    # Rewinding wrote a mark behind them, which worked.
    assert cartridge.count == FIRST_RECORD + 6
    assert cartridge.is_filemark(FIRST_RECORD + 5)
    cartridge.close()
    assert kept == IMAGE[: 5 * RECORD]
    lab.model.faults.replace(FaultPlan())
    assert back_up(lab).media == (("T3", 2),)


def test_a_header_that_cannot_be_written_costs_one_cartridge(lab: Site) -> None:
    """The next one is taken, and the first one takes no more."""
    lab.model.faults.add(CartridgeFault("T1", medium_error=2, on_read=False))
    job = back_up(lab)
    assert job.media == (("T2", 2),)
    assert state(lab, "T1") is MediumState.FULL
    assert restored(lab, job) == IMAGE


def test_a_broken_drive_does_not_use_up_the_library(lab: Site) -> None:
    """Two cartridges in a row without a header: the drive is named, the third is not tried."""
    for barcode in ("T1", "T2", "T3"):
        lab.model.faults.add(CartridgeFault(barcode, medium_error=2, on_read=False))
    with pytest.raises(JobError, match=r"drive DRV1 cannot write .*clean it"):
        back_up(lab)
    assert "T3" not in media.media(lab.catalogue)
    assert "a header could not be written" in media.media(lab.catalogue)["T2"].fault


def test_a_job_goes_on_with_another_drive(lab: Site) -> None:
    """A drive that fails when it is opened is given up, and its cartridge carried to the other one."""
    script(
        lab, '[[fault]]\ndevice = "DRV1"\ncommand = "MODE SENSE(6)"\ntimes = 0\nsense = "hardware error"\n'
    )
    job = back_up(lab)
    assert (job.media, "going on with drive DRV2" in lab.output.getvalue()) == ((("T1", 2),), True)
    assert leases.held(lab.catalogue) == {}
    assert restored(lab, job) == IMAGE


@pytest.mark.parametrize("broken", [(), ("WRITE FILEMARKS(6)",), ("SPACE(6)",)])
def test_an_image_goes_on_in_another_drive(lab: Site, broken: tuple[str, ...]) -> None:
    """A drive that breaks within an image is left; what it wrote is counted, in the other one if need be."""
    script(lab, BROKEN.format(drive="DRV1", command="WRITE(6)", nth=8))
    for command in broken:
        # Label and header have a mark each.
        nth = 3 if command == "WRITE FILEMARKS(6)" else 1
        script(lab, BROKEN.format(drive="DRV1", command=command, nth=nth))
    job = back_up(lab)
    assert job.status is Status.PROBLEMS
    (image,) = media.images(lab.catalogue, job.id)
    parts = media.segments(lab.catalogue, image)
    assert [(part.barcode, part.length) for part in parts] == [
        ("T1", 5 * RECORD),
        ("T2", len(IMAGE) - 5 * RECORD),
    ]
    assert "going on with drive DRV2" in lab.output.getvalue()
    assert "HARDWARE ERROR" in problem_lines(lab, job)
    assert state(lab, "T1") is MediumState.FULL
    assert leases.held(lab.catalogue) == {}
    lab.model.faults.replace(FaultPlan())
    assert restored(lab, job) == IMAGE


@pytest.fixture
def two_records_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever counts records on tape finds two less than were written: a drive lost its buffer."""
    real = Tape.skip_records

    def skip_records(tape: Tape, count: int) -> int:
        return real(tape, count - 2) + 2

    monkeypatch.setattr(Tape, "skip_records", skip_records)


@pytest.mark.usefixtures("two_records_lost")
@pytest.mark.parametrize(("command", "nth", "kept"), [("WRITE(6)", 8, 3), ("WRITE FILEMARKS(6)", 3, 19)])
def test_a_failed_image_is_as_long_as_what_is_on_tape(lab: Site, command: str, nth: int, kept: int) -> None:
    """Whether it fails on the way or at its end, the catalogue knows no byte that no cartridge holds."""
    script(lab, BROKEN.format(drive="DRV1", command=command, nth=nth))
    with pytest.raises(JobError, match="T1 holds"):
        back_up(lab)
    (failed,) = jobs.list_all(lab.catalogue)
    (image,) = media.images(lab.catalogue, failed.id)
    assert [part.length for part in media.segments(lab.catalogue, image)] == [kept * RECORD]
    assert image.length == kept * RECORD


def test_the_flag_of_another_make_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server of another make that has ERROR set at each end of medium: the cartridge is full, and good."""
    monkeypatch.setattr(configservice, "VENDOR", b"Elsewhere")
    monkeypatch.setattr(OpenDrive, "flags", TapeFlag.NOREWIND | TapeFlag.ERROR)
    with site(tmp_path, ("DRV1", "DRV2")) as lab:
        lab.script.image = IMAGE * 4
        job = back_up(lab)
        assert (job.status, [barcode for barcode, _ in job.media]) == (Status.COMPLETE, ["T1", "T2"])
        assert (state(lab, "T1"), media.media(lab.catalogue)["T1"].fault) == (MediumState.FULL, "")
        assert "DRV2" not in lab.output.getvalue()
        assert restored(lab, job) == IMAGE * 4


READING = """
[[fault]]
device = "{drive}"
command = "{command}"
nth = {nth}
times = {times}
sense = "{sense}"
"""
READ_SEVENTH = 8
"""Read commands until the seventh record of the image: the header is the first."""


@pytest.mark.parametrize(("command", "nth"), [("READ(6)", READ_SEVENTH), ("SPACE(6)", 2)])
def test_a_restore_goes_on_in_another_drive(lab: Site, command: str, nth: int) -> None:
    """A drive that breaks is left: the record that it failed to read comes from the other one, once."""
    job = back_up(lab)
    script(lab, READING.format(drive="DRV1", command=command, nth=nth, times=0, sense="hardware error"))
    result = restore.run(lab.context, restore.Request(job, (), b"/to", "keep", "fs1"))
    assert (lab.script.received, result.status) == (IMAGE, Status.PROBLEMS)
    assert leases.held(lab.catalogue) == {}
    said = lab.output.getvalue()
    assert "going on with drive DRV2" in said
    if command == "READ(6)":
        assert "drive DRV1 failed to read T1, tape file 2, record 6" in said
        assert "drive:DRV1, cartridge T1, position block" in said
        assert "HARDWARE ERROR" in said
        assert "use another drive meanwhile" in said


def test_a_drive_that_fails_once_while_reading_is_tried_again(tmp_path: Path) -> None:
    """Where there is no other drive the same one goes on at the record that failed."""
    with site(tmp_path, ("DRV1",)) as lab:
        lab.script.image = IMAGE
        job = back_up(lab)
        script(lab, READING.format(drive="DRV1", command="READ(6)", nth=8, times=1, sense="hardware error"))
        assert restored(lab, job) == IMAGE
        assert "no other drive is free, so it is tried again" in lab.output.getvalue()


def test_both_drives_broken_end_a_restore(lab: Site) -> None:
    """Drives are changed once in a stream; then it ends, and says which drive, cartridge and remedy."""
    job = back_up(lab)
    for drive in ("DRV1", "DRV2"):
        script(lab, READING.format(drive=drive, command="READ(6)", nth=4, times=0, sense="hardware error"))
    with pytest.raises(
        JobError, match=r"MEDIA_ERROR \(drive:DRV2, cartridge T1.*HARDWARE ERROR.*another drive"
    ):
        restored(lab, job)
    assert leases.held(lab.catalogue) == {}
    lab.model.faults.replace(FaultPlan())
    assert restored(lab, job) == IMAGE


def test_a_place_that_cannot_be_read_is_not_carried_about(lab: Site) -> None:
    """A medium error would be one in any drive: no cartridge is moved for it."""
    job = back_up(lab)
    lab.model.faults.add(CartridgeFault("T1", medium_error=FIRST_RECORD + 5))
    with pytest.raises(JobError, match=r"MEDIA_ERROR \(drive:DRV1, cartridge T1.*MEDIUM ERROR"):
        restored(lab, job)
    assert "DRV2" not in lab.output.getvalue()


def test_where_there_is_no_other_drive_the_same_one_is_tried(tmp_path: Path) -> None:
    """A drive that fails once goes on with the next cartridge."""
    with site(tmp_path, ("DRV1",)) as lab:
        lab.script.image = IMAGE
        script(lab, BROKEN.format(drive="DRV1", command="WRITE(6)", nth=8).replace("times = 0", "times = 1"))
        job = back_up(lab)
        assert [barcode for barcode, _ in job.media] == ["T1", "T2"]
        assert restored(lab, job) == IMAGE


def test_a_drive_that_vanishes_ends_the_job(lab: Site) -> None:
    """The job fails and says so; the next one finds the end of what is good, and nothing else changed."""
    first = back_up(lab)
    before = (lab.folder / "library" / "T1.tape").read_bytes()
    script(lab, '[[fault]]\ndevice = "DRV1"\ncommand = "WRITE(6)"\nnth = 5\ngone = 0\n')
    with pytest.raises((JobError, InfrastructureError)):
        back_up(lab)
    assert (lab.folder / "library" / "T1.tape").read_bytes()[: len(before)] == before
    assert leases.held(lab.catalogue) == {}
    lab.model.faults.restore("DRV1")
    assert restored(lab, first) == IMAGE
    job = back_up(lab)
    assert restored(lab, job) == IMAGE
    assert restored(lab, first) == IMAGE


def test_a_stuck_robot_ends_the_job_before_anything_is_written(lab: Site) -> None:
    """The sense of the robot is in the reason, and no cartridge is blamed."""
    script(lab, '[[fault]]\ncommand = "MOVE MEDIUM"\ntimes = 0\nsense = "stuck robot"\n')
    with pytest.raises(InfrastructureError, match=r"the library failed.*15/01"):
        back_up(lab)
    assert media.media(lab.catalogue) == {}
    assert leases.held(lab.catalogue) == {}


def test_a_robot_that_fails_once_is_no_lasting_harm(lab: Site) -> None:
    """The next job does what this one could not."""
    script(lab, '[[fault]]\ncommand = "MOVE MEDIUM"\nsense = "stuck robot"\n')
    with pytest.raises(InfrastructureError):
        back_up(lab)
    assert back_up(lab).status is Status.COMPLETE


def test_a_cartridge_with_another_ones_barcode_is_left_alone(lab: Site) -> None:
    """The label on the tape counts, not the one on the outside."""
    first = back_up(lab)
    lab.catalogue.connection.execute("UPDATE medium SET state = 'full' WHERE barcode = 'T1'")
    second = back_up(lab)
    assert second.media == (("T2", 2),)
    before = {name: (lab.folder / "library" / f"{name}.tape").read_bytes() for name in ("T1", "T2")}
    # T1 shows T2's barcode, and T2 one that nobody knows.
    lab.model.faults.add(CartridgeFault("T1", shown_as="T2"))
    lab.model.faults.add(CartridgeFault("T2", shown_as="X9"))
    job = back_up(lab)
    assert job.media == (("T3", 2),)
    assert {name: (lab.folder / "library" / f"{name}.tape").read_bytes() for name in before} == before
    assert "an older labelling" in lab.output.getvalue()
    assert first.status is Status.COMPLETE


def test_a_write_protected_cartridge_is_passed_over(lab: Site) -> None:
    """The next one is taken, the tab is named, nothing is marked."""
    lab.model.set_write_protected("T1", True)
    assert back_up(lab).media == (("T2", 2),)
    assert "T1 is write protected" in lab.output.getvalue()


def test_a_drive_that_becomes_ready_is_waited_for(lab: Site) -> None:
    """Not ready, becoming ready (02/04/01) is waited out by the media server."""
    script(lab, '[[fault]]\ncommand = "TEST UNIT READY"\nnth = 2\nsense = "becoming ready"\n')
    assert back_up(lab).status is Status.COMPLETE


def test_a_dead_jobs_place_is_found_again_and_nothing_before_it_is_touched(lab: Site) -> None:
    """A job that died in the middle leaves no mark: the next one writes over its header, not before."""
    first = back_up(lab)
    before = (lab.folder / "library" / "T1.tape").read_bytes()
    script(lab, '[[fault]]\ndevice = "DRV1"\ncommand = "WRITE(6)"\nnth = 5\ngone = 0\n')
    with pytest.raises((JobError, InfrastructureError)):
        back_up(lab)
    lab.model.faults.restore("DRV1")
    third = back_up(lab)
    content = (lab.folder / "library" / "T1.tape").read_bytes()
    if third.media[0][0] == "T1":
        assert content[: len(before)] == before
        cartridge = Cartridge(lab.folder / "library" / "T1.tape")
        headers = [
            cartridge.read(i, 65536) for i in range(cartridge.count) if cartridge.record_length(i) == 65536
        ]
        cartridge.close()
        assert [Header.parse(each).job for each in headers[1:]] == [str(first.id), str(third.id)]


def test_a_header_of_a_kept_segment_is_never_written_over(lab: Site) -> None:
    """A catalogue that takes a good segment for a dead job's is not believed."""
    first = back_up(lab)
    before = (lab.folder / "library" / "T1.tape").read_bytes()
    with lab.catalogue.transaction() as connection:
        # An unfinished segment of another image is entered where the good one stands.
        (image,) = media.images(lab.catalogue, first.id)
        connection.execute(
            "INSERT INTO segment (image, number, barcode, file, start) VALUES (?, 99, 'T1', 2, 0)",
            (image.id,),
        )
        connection.execute("UPDATE medium SET last_file = 0 WHERE barcode = 'T1'")
    back_up(lab)
    assert (lab.folder / "library" / "T1.tape").read_bytes()[: len(before)] == before
