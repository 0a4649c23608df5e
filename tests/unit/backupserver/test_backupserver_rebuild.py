"""`spanreel catalogue rebuild`: from cartridges alone to a catalogue that restores."""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from dma_support import Site, site
from image_support import flip, save

from appliance.backupserver import backup, history, jobs, leases, media, rebuild, restore, shelf
from appliance.backupserver.catalogue import Catalogue
from appliance.backupserver.jobs import Status
from appliance.backupserver.labels import Header
from appliance.backupserver.media import MediumState
from appliance.backupserver.peers import Context
from appliance.backupserver.progress import Screen
from appliance.cli import run
from appliance.errors import ConfigurationError, ExitCode, JobError
from appliance.ndmp.enums import FileType
from tape.model.faultscript import parse_faults


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small tree with a link and a name that is no text."""
    root = tmp_path / "tree"
    (root / "projects").mkdir(parents=True)
    (root / "projects" / "plan").write_bytes(b"p" * 5000)
    (root / "projects" / "large").write_bytes(random.Random(1).randbytes(1 << 20))
    (root / "again").hardlink_to(root / "projects" / "plan")
    (root / "way").symlink_to("projects")
    (root / os.fsdecode(b"no text \xff\n")).write_bytes(b"x")
    os.utime(root / "projects" / "plan", (1_000_000_000, 1_234_567_890))
    return root


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Site]:
    """A site."""
    (tmp_path / "site").mkdir()
    with site(tmp_path / "site") as made:
        yield made


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Catalogue]:
    """The catalogue that takes the lost one's place."""
    with Catalogue(tmp_path / "fresh.sqlite") as made:
        yield made


def context(lab: Site, catalogue: Catalogue) -> Context:
    """What a command has after the loss."""
    return Context(lab.config, catalogue, Screen(lab.output))


def back_up(lab: Site, *paths: bytes) -> jobs.Job:
    """Run a backup."""
    return backup.run(lab.context, backup.Request(paths or (b"/",), "fs1"))


def entries(catalogue: Catalogue, image: int) -> dict[bytes, history.Entry]:
    """All names of an image."""
    return {entry.path: entry for entry in history.descendants(catalogue, image, b"/")}


def test_a_lost_catalogue_comes_back_and_restores(lab: Site, tree: Path, fresh: Catalogue) -> None:
    """Jobs, images, segments, cartridges and every name with its place are as before; a file restores."""
    saved = {entry.path: entry for entry in save(lab, tree)}
    first, second = back_up(lab), back_up(lab)
    result = rebuild.run(context(lab, fresh), ())
    assert (result.status, result.problems) == (Status.COMPLETE, [])
    assert (result.cartridges, result.jobs, result.images) == (["T1"], [first.id, second.id], 2)
    assert fresh.uuid == lab.catalogue.uuid
    for job in (first, second):
        found = jobs.get(fresh, job.id)
        assert (found.status, found.paths, found.media) == (Status.COMPLETE, job.paths, job.media)
        assert (found.files, found.bytes) == (len(saved), len(lab.script.image))
        (old,), (new,) = media.images(lab.catalogue, job.id), media.images(fresh, job.id)
        assert (new.uuid, new.root, new.length) == (old.uuid, old.root, old.length)
        assert media.segments(fresh, new) == media.segments(lab.catalogue, old)
        names = entries(fresh, new.id)
        assert names.keys() == saved.keys() - {b"/"}
        for path, entry in names.items():
            now = saved[path].stat
            assert (entry.node, entry.offset) == (saved[path].node, saved[path].offset)
            assert (entry.mode, entry.size, entry.owner) == (now.st_mode & 0o7777, now.st_size, now.st_uid)
            assert entry.mtime == int(now.st_mtime)
        assert names[b"/way"].type is FileType.SLINK
        assert names[b"/again"].offset == names[b"/projects/plan"].offset
    asked = restore.Request(jobs.find(fresh, "latest"), (b"/projects/plan",), b"/to", "keep", "fs1")
    assert restore.run(context(lab, fresh), asked).status is Status.COMPLETE
    assert lab.script.received == lab.script.image
    assert lab.script.nlist[0].fh_info == saved[b"/projects/plan"].offset


def test_the_rebuilt_catalogue_goes_on_with_its_cartridges(lab: Site, tree: Path, fresh: Catalogue) -> None:
    """The next backup is appended behind what is there, under a number of its own."""
    save(lab, tree)
    back_up(lab)
    rebuild.run(context(lab, fresh), ())
    job = backup.run(context(lab, fresh), backup.Request((b"/",), "fs1"))
    assert (job.id, job.status, job.media) == (2, Status.COMPLETE, (("T1", 4),))


def test_an_image_over_three_cartridges_comes_back(lab: Site, tree: Path, fresh: Catalogue) -> None:
    """Segments find each other again by their headers, whatever the order of the cartridges."""
    (tree / "huge").write_bytes(random.Random(2).randbytes(36 << 20))
    save(lab, tree)
    job = back_up(lab)
    result = rebuild.run(context(lab, fresh), ("T3", "T1", "T2"))
    assert result.problems == []
    (old,), (new,) = media.images(lab.catalogue, job.id), media.images(fresh, job.id)
    assert media.segments(fresh, new) == media.segments(lab.catalogue, old)
    states = {barcode: medium.state for barcode, medium in media.media(fresh).items()}
    assert states == {"T1": MediumState.FULL, "T2": MediumState.FULL, "T3": MediumState.APPENDABLE}


BROKEN_READER = """
[[fault]]
device = "{drive}"
command = "READ(6)"
nth = {nth}
times = 0
sense = "hardware error"
"""


WITHIN_THE_IMAGE = 9
"""Read commands until there: three of the first cartridge, one of each blank one, the header once more."""


@pytest.mark.parametrize("nth", [1, 2, 3, WITHIN_THE_IMAGE])
def test_a_drive_that_breaks_is_left_for_another(
    tmp_path: Path, tree: Path, fresh: Catalogue, nth: int
) -> None:
    """At a label, a header, the end of data or within an image; nothing is missing then."""
    with site(tmp_path, ("DRV1", "DRV2")) as lab:
        saved = {entry.path: entry for entry in save(lab, tree)}
        job = back_up(lab)
        lab.model.faults.extend(parse_faults(BROKEN_READER.format(drive="DRV1", nth=nth)))
        result = rebuild.run(context(lab, fresh), ())
        said = lab.output.getvalue()
        assert "going on with drive DRV2" in said
        assert ("failed to read T1, tape file 2, record" in said) == (nth == WITHIN_THE_IMAGE)
        assert (result.status, result.images) == (Status.COMPLETE, 1), result.problems
        (image,) = media.images(fresh, job.id)
        assert entries(fresh, image.id).keys() == saved.keys() - {b"/"}
        assert leases.held(fresh) == {}


def test_a_cartridge_that_no_drive_can_read_is_a_problem(
    tmp_path: Path, tree: Path, fresh: Catalogue
) -> None:
    """It may hold what the catalogue lacks: nobody is told that all is there."""
    with site(tmp_path, ("DRV1", "DRV2")) as lab:
        save(lab, tree)
        back_up(lab)
        for drive in ("DRV1", "DRV2"):
            lab.model.faults.extend(parse_faults(BROKEN_READER.format(drive=drive, nth=1)))
        result = rebuild.run(context(lab, fresh), ())
        assert (result.status, result.images) == (Status.PROBLEMS, 0)
        told = [text for _, text in result.problems]
        assert [text.partition(":")[0] for text in told] == [
            f"{barcode} cannot be read, so what it holds is not known" for barcode in ("T1", "T2", "T3", "T4")
        ]


def test_what_a_drive_read_before_it_broke_is_kept(tmp_path: Path, tree: Path, fresh: Catalogue) -> None:
    """Where the next drive reads less, the headers that were found are entered, the cartridge is named."""
    with site(tmp_path, ("DRV1", "DRV2")) as lab:
        save(lab, tree)
        jobs_made = [back_up(lab).id, back_up(lab).id]
        # The label and two headers.
        lab.model.faults.extend(parse_faults(BROKEN_READER.format(drive="DRV1", nth=4)))
        lab.model.faults.extend(parse_faults(BROKEN_READER.format(drive="DRV2", nth=1)))
        result = rebuild.run(context(lab, fresh), ("T1",))
        assert (result.status, result.jobs) == (Status.PROBLEMS, jobs_made)
        assert any(text.startswith("T1: tape file") for _, text in result.problems), result.problems


def test_the_last_drive_broken_costs_no_report(tmp_path: Path, tree: Path, fresh: Catalogue) -> None:
    """It neither reads nor rewinds any more: every cartridge is tried and named, and the drive is, too."""
    with site(tmp_path) as lab:
        save(lab, tree)
        back_up(lab)
        dead = BROKEN_READER.format(drive="DRV1", nth=1)
        stuck = dead.replace("READ(6)", "REWIND").replace("nth = 1", "nth = 2")
        lab.model.faults.extend(parse_faults(dead + stuck))
        result = rebuild.run(context(lab, fresh), ())
        assert result.status is Status.PROBLEMS
        told = [text for _, text in result.problems]
        assert [text.partition(" ")[0] for text in told[:4]] == ["T1", "T2", "T3", "T4"]
        for barcode in ("T2", "T3", "T4"):
            assert f"loading {barcode} into drive DRV1" in lab.output.getvalue()
        assert leases.held(fresh) == {}


def test_a_missing_cartridge_is_told(lab: Site, tree: Path, fresh: Catalogue) -> None:
    """What the other cartridges hold is entered; the job is not called whole."""
    (tree / "huge").write_bytes(random.Random(2).randbytes(36 << 20))
    save(lab, tree)
    job = back_up(lab)
    result = rebuild.run(context(lab, fresh), ("T1", "T3"))
    assert result.status is Status.PROBLEMS
    assert any("segment 2" in text for _, text in result.problems)
    found = jobs.get(fresh, job.id)
    assert found.status is Status.FAILED
    (image,) = media.images(fresh, job.id)
    assert b"/projects/plan" in entries(fresh, image.id)
    # With the cartridge found it is completed.
    result = rebuild.run(context(lab, fresh), ("T1", "T2", "T3"), force=True)
    assert media.images(fresh, job.id)[0].length == len(lab.script.image)


def test_a_damaged_file_is_entered_and_named(lab: Site, tree: Path, fresh: Catalogue) -> None:
    """A flipped bit costs no name of the catalogue, and is told."""
    saved = {entry.path: entry for entry in save(lab, tree)}
    job = back_up(lab)
    flip(lab, "T1", saved[b"/projects/large"].offset + 20)
    result = rebuild.run(context(lab, fresh), ())
    assert {path for path, _ in result.problems} == {b"/projects/large"}
    assert jobs.get(fresh, job.id).status is Status.PROBLEMS
    assert entries(fresh, media.images(fresh, job.id)[0].id).keys() == saved.keys() - {b"/"}


def test_a_lost_index_leaves_the_names(lab: Site, tree: Path, fresh: Catalogue) -> None:
    """Where the index is damaged, members' own headers say what there is and where."""
    saved = {entry.path: entry for entry in save(lab, tree)}
    job = back_up(lab)
    index = next(re.finditer(rb"\./GlobalHead/spanreel-job1-\d+\0", lab.script.image[1024:])).start() + 1024
    flip(lab, "T1", index + 3)
    result = rebuild.run(context(lab, fresh), ())
    assert any("index is lost" in text for _, text in result.problems)
    names = entries(fresh, media.images(fresh, job.id)[0].id)
    assert names.keys() == saved.keys() - {b"/"}
    assert names[b"/projects/plan"].mtime == 1_234_567_890


def test_a_failed_job_is_not_called_whole(lab: Site, tree: Path, fresh: Catalogue) -> None:
    """An image that was cut short comes back with what it has, and cannot be taken for a good one."""
    save(lab, tree)
    lab.script.sends = 600_000
    with pytest.raises(JobError):
        back_up(lab)
    result = rebuild.run(context(lab, fresh), ())
    found = jobs.get(fresh, 1)
    assert (result.status, found.status) == (Status.PROBLEMS, Status.FAILED)
    with pytest.raises(ConfigurationError):
        jobs.find(fresh, "latest")


def test_a_catalogue_with_jobs_is_left_alone(lab: Site, tree: Path) -> None:
    """Without --force nothing is touched; with it, what is known stays as it is."""
    save(lab, tree)
    job = back_up(lab)
    with pytest.raises(ConfigurationError, match="--force"):
        rebuild.run(lab.context, ())
    result = rebuild.run(lab.context, (), force=True)
    assert (result.images, result.problems) == (0, [])
    assert list(jobs.list_all(lab.catalogue)) == [job]


def test_a_failed_job_that_is_known_stays_as_it_is(lab: Site, tree: Path) -> None:
    """--force reads no image again that this catalogue's own backup left unfinished."""
    save(lab, tree)
    lab.script.sends = 600_000
    with pytest.raises(JobError):
        back_up(lab)
    before = list(jobs.list_all(lab.catalogue))
    assert rebuild.run(lab.context, (), force=True).images == 0
    assert list(jobs.list_all(lab.catalogue)) == before


@pytest.mark.parametrize(
    "lie",
    [{"record_size": 0}, {"record_size": 2**40}, {"offset": -512}, {"segment": 2**60}, {"level": 2**70}],
)
def test_a_header_that_lies_is_told(
    lab: Site, tree: Path, fresh: Catalogue, monkeypatch: pytest.MonkeyPatch, lie: dict[str, int]
) -> None:
    """Impossible numbers on tape cost that segment, never the rebuild."""
    save(lab, tree)
    good = back_up(lab)
    monkeypatch.setattr(shelf, "Header", lambda **values: Header(**{**values, **lie}))
    back_up(lab)
    monkeypatch.undo()
    result = rebuild.run(context(lab, fresh), ())
    assert result.jobs == [good.id]
    assert any("impossible numbers" in text for _, text in result.problems)


def test_cartridges_of_others_are_left_alone(lab: Site, tree: Path, fresh: Catalogue) -> None:
    """A cartridge of another catalogue is named, and none of its jobs is entered."""
    save(lab, tree)
    back_up(lab)
    with Catalogue(lab.folder / "other.sqlite") as other:
        media.add_medium(other, "T9", "somebody's")
        result = rebuild.run(context(lab, other), ("T1", "T2"))
    assert result.jobs == []
    assert [("another catalogue" in text, "holds nothing" in text) for _, text in result.problems] == [
        (True, False),
        (False, True),
    ]


def test_the_command_says_what_came_back(lab: Site, tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 before a catalogue that has jobs, 0 once it is lost; `spanreel ls` then lists the job."""
    save(lab, tree)
    back_up(lab)

    def call(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        code = run([*arguments, "--config", str(lab.config_file)])
        lines = capsys.readouterr().out.splitlines(keepends=True)
        return code, "".join(line for line in lines if " [info " not in line)

    assert call("catalogue", "rebuild")[0] == ExitCode.USAGE
    lab.catalogue.close()
    for path in lab.catalogue.path.parent.glob("catalogue.sqlite*"):
        path.unlink()
    code, output = call("catalogue", "rebuild", "--json")
    assert code == ExitCode.COMPLETE
    assert json.loads(output)["files"] == len(lab.script.names)
    assert "plan" in call("ls", "latest", "/projects")[1]
    assert call("verify", "latest")[0] == ExitCode.COMPLETE
