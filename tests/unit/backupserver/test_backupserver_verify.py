"""`spanreel verify`: the tape is read by the backup server alone, and every damaged file is named."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from dma_support import Site, site
from image_support import RECORD, flip, save

from appliance.archive.part import Entry
from appliance.backupserver import backup, jobs, leases, verify
from appliance.backupserver.jobs import Job, Status
from appliance.cli import run
from appliance.errors import ConfigurationError, ExitCode, JobError
from appliance.ndmp.enums import ErrorCode
from tape.errors import MediumError
from tape.model.cartridge import Cartridge
from tape.model.faultscript import parse_faults

LARGE = 36 << 20
"""More than two of the library's cartridges hold."""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Site]:
    """A site whose file server has a tree."""
    tree = tmp_path / "tree"
    (tree / "projects").mkdir(parents=True)
    (tree / "projects" / "plan").write_bytes(b"p" * 5000)
    (tree / "projects" / "large").write_bytes(random.Random(1).randbytes(1 << 20))
    (tree / "projects" / "last").write_bytes(b"l" * 700)
    (tree / "else").write_bytes(b"e" * 100)
    (tmp_path / "site").mkdir()
    with site(tmp_path / "site") as made:
        yield made


def back_up(lab: Site, tree: Path) -> tuple[Job, dict[bytes, Entry]]:
    """Back a tree up; return the job and where each name is."""
    entries = save(lab, tree)
    job = backup.run(lab.context, backup.Request((b"/",), "fs1"))
    lab.script.started.clear()
    return job, {entry.path: entry for entry in entries}


def named(result: verify.Result) -> set[bytes]:
    """The paths that are named."""
    return {path for path, _ in result.problems}


def test_a_good_tape_is_complete_and_no_file_server_is_asked(lab: Site, tmp_path: Path) -> None:
    """Every byte is read and every name vouched for, with nobody but the media server there."""
    job, entries = back_up(lab, tmp_path / "tree")
    result = verify.run(lab.context, job, ())
    assert (result.status, result.problems) == (Status.COMPLETE, [])
    assert (result.files, result.length) == (len(entries), len(lab.script.image))
    assert lab.script.started == []


def test_a_flipped_bit_on_tape_is_named(lab: Site, tmp_path: Path) -> None:
    """One bit in a file's data costs that file; what was not asked for is not reported."""
    job, entries = back_up(lab, tmp_path / "tree")
    flip(lab, "T1", entries[b"/projects/plan"].offset + 3000)
    result = verify.run(lab.context, job, ())
    assert result.status is Status.PROBLEMS
    assert named(result) == {b"/projects/plan"}
    assert (result.files, result.damaged) == (len(entries) - 1, 1)
    assert verify.run(lab.context, job, (b"/projects",)).damaged == 1
    elsewhere = verify.run(lab.context, job, (b"/else",))
    assert (elsewhere.status, elsewhere.files) == (Status.COMPLETE, 1)


def test_a_flipped_bit_in_a_header_costs_one_file(lab: Site, tmp_path: Path) -> None:
    """The reader finds its way again behind a header that is none any more."""
    job, entries = back_up(lab, tmp_path / "tree")
    flip(lab, "T1", entries[b"/projects/large"].offset + 20)
    result = verify.run(lab.context, job, ())
    assert named(result) == {b"/projects/large"}
    assert result.files == len(entries) - 1


def test_an_unreadable_record_costs_the_files_in_it(
    lab: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The drive cannot read one record: the files in it are named, and all behind it is read."""
    job, entries = back_up(lab, tmp_path / "tree")
    bad = lab.script.image[2 * RECORD : 3 * RECORD]
    real = Cartridge.read

    def read(self: Cartridge, number: int, length: int) -> bytes:
        data = real(self, number, length)
        if data == bad:
            raise MediumError("unrecovered read error", device="model")
        return data

    monkeypatch.setattr(Cartridge, "read", read)
    result = verify.run(lab.context, job, ())
    assert result.status is Status.PROBLEMS
    assert named(result) == {b"", b"/projects/large"}
    assert result.files == len(entries) - 1
    assert any("1 records on tape cannot be read" in text for _, text in result.problems)


def test_a_drive_that_breaks_is_left(tmp_path: Path) -> None:
    """Every file is vouched for all the same, from the other drive; the job's problem is the drive's line."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "large").write_bytes(random.Random(1).randbytes(9 * RECORD))
    (tmp_path / "site").mkdir()
    with site(tmp_path / "site", ("DRV1", "DRV2")) as lab:
        job, entries = back_up(lab, tmp_path / "tree")
        fault = 'device = "DRV1"\ncommand = "READ(6)"\nnth = 5\ntimes = 0\nsense = "hardware error"\n'
        lab.model.faults.extend(parse_faults(f"[[fault]]\n{fault}"))
        result = verify.run(lab.context, job, ())
        assert (result.files, result.damaged) == (len(entries), 0)
        assert "drive DRV1 failed to read T1, tape file 2, record 3" in lab.output.getvalue()
        assert leases.held(lab.catalogue) == {}


def test_an_image_over_three_cartridges_is_one(lab: Site, tmp_path: Path) -> None:
    """Cartridges are changed on the way, and damage on the last of them is found."""
    (tmp_path / "tree" / "huge").write_bytes(random.Random(2).randbytes(LARGE))
    job, entries = back_up(lab, tmp_path / "tree")
    assert len(job.media) == 3
    assert verify.run(lab.context, job, ()).status is Status.COMPLETE
    starts = [0, *_segment_starts(lab, job)]
    flip(lab, job.media[2][0], starts[2] + 70_000, starts[2])
    result = verify.run(lab.context, job, ())
    assert named(result) == {b"/huge"}
    assert result.files == len(entries) - 1


def _segment_starts(lab: Site, job: Job) -> list[int]:
    rows = lab.catalogue.connection.execute(
        "SELECT start FROM segment JOIN image ON image.id = segment.image WHERE job = ? AND start > 0"
        " ORDER BY start",
        (job.id,),
    )
    return [start for (start,) in rows]


def test_what_is_not_ours_is_said_so(lab: Site) -> None:
    """The image of a foreign server has no checksums of ours: that is told, not guessed."""
    lab.script.image = b"dump of another make" * 1000
    job = backup.run(lab.context, backup.Request((b"/",), "fs1"))
    result = verify.run(lab.context, job, ())
    assert result.status is Status.PROBLEMS
    assert any("none of Spanreel's" in text for _, text in result.problems)


def test_a_path_that_the_job_does_not_hold_is_refused(lab: Site, tmp_path: Path) -> None:
    """A typing error is told before any tape moves."""
    save(lab, tmp_path / "tree")
    job = backup.run(lab.context, backup.Request((b"/projects",), "fs1"))
    with pytest.raises(ConfigurationError, match="does not hold /nowhere"):
        verify.run(lab.context, job, (b"/nowhere",))


def test_a_job_without_tape_is_refused(lab: Site) -> None:
    """A job that failed before its first byte has nothing to look at."""
    lab.script.refuse = ErrorCode.ILLEGAL_ARGS
    with pytest.raises(JobError):
        backup.run(lab.context, backup.Request((b"/",), "fs1"))
    job = jobs.get(lab.catalogue, 1)
    with pytest.raises(JobError, match="on tape"):
        verify.run(lab.context, job, ())


def test_the_command_ends_with_what_it_found(
    lab: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 0 for a good tape, 4 with the damaged file's global path, 2 for a job that is none."""
    _, entries = back_up(lab, tmp_path / "tree")

    def call(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        code = run(["verify", *arguments, "--config", str(lab.config_file)])
        lines = capsys.readouterr().out.splitlines(keepends=True)
        return code, "".join(line for line in lines if " [info " not in line and " [error " not in line)

    assert call("latest")[0] == ExitCode.COMPLETE
    flip(lab, "T1", entries[b"/else"].offset + 600)
    code, output = call("latest")
    assert code == ExitCode.PROBLEMS
    assert "/else: is damaged" in output
    code, output = call("1", "--json")
    assert json.loads(output)["damaged"] == 1
    assert call("77")[0] == ExitCode.USAGE
