"""The tree of a day out of full and incremental images: what is listed, and what a restore asks of each."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
from backupserver_support import received

from appliance.archive import treestate
from appliance.archive.outcome import Existing, ExtractOptions
from appliance.archive.verify import Verifier
from appliance.backupserver import history, jobs, media, nlist
from appliance.backupserver.catalogue import Catalogue, open_catalogue
from appliance.backupserver.chain import Chain
from appliance.backupserver.indexrows import IndexRows
from appliance.backupserver.jobs import Job
from appliance.backupserver.media import Image
from appliance.fileserver.environment import HistoryForm
from appliance.fileserver.history import History
from appliance.ndmp.declare import CODES, Kind
from appliance.ndmp.endpoint import Received
from appliance.ndmp.enums import ALL_ONES
from appliance.ndmp.xdr import Struct
from tests.treechanges import change, snapshot
from tests.unit.archive import archive_support, incremental_support

SEEDS = range(40)
DAYS = 4


class Posts:
    """A poster that hands file history on to a catalogue."""

    def __init__(self, writer: history.HistoryWriter) -> None:
        self._writer = writer

    def post(self, body: Struct) -> None:
        self._writer.put(received(body, CODES[type(body)][1]))

    def raw_post(self, code: int, raw: bytes) -> None:
        self._writer.put(Received(1, code, Kind.POST, 0, 0, raw))


class Days:
    """A tree that is saved again and again, with what the catalogue gets of it."""

    def __init__(self, catalogue: Catalogue, folder: Path) -> None:
        (folder / "tree").mkdir()
        (folder / "states").mkdir()
        self.catalogue = catalogue
        self.root = folder / "tree"
        self.archive = incremental_support.Chain(self.root, folder / "states")
        self.images: list[Image] = []
        self.jobs: list[Job] = []
        self.trees: list[dict[str, Any]] = []

    def save(self) -> None:
        """Save what changed, and remember the tree."""
        job = jobs.create(self.catalogue, [b"/"], "fs1", len(self.images))
        base = self.images[-1].uuid if self.images else None
        image = media.add_image(self.catalogue, job, 1, b"/", 1024, level=len(self.images), base=base)
        writer = history.HistoryWriter(
            self.catalogue.path, image.id, lambda text: pytest.fail(text.decode()), is_incremental=bool(base)
        )
        observer = History(Posts(writer), HistoryForm.NODE)  # type: ignore[arg-type]
        self.archive.save(observer=observer)
        observer.flush()
        writer.finish()
        assert self.archive.changes is not None
        slash = [(b"/" + new, b"/" + old) for new, old in self.archive.changes.moves.origins]
        media.set_moved(self.catalogue, image, slash)
        self.images.append(image)
        self.jobs.append(jobs.get(self.catalogue, job))
        self.trees.append(snapshot(self.root))

    def restore(self, day: int, to: Path, *, overwrites: bool) -> None:
        """Restore what the catalogue says makes the tree of a day."""
        to.mkdir()
        for part in nlist.plan(self.catalogue, self.jobs[day], [], b"/", overwrites=overwrites):
            again, unknown = nlist.second_pass(self.catalogue, part, self._read(part, to, overwrites))
            assert unknown == []
            assert not again.names or self._read(again, to, overwrites) == []

    def _read(self, part: nlist.Part, to: Path, overwrites: bool) -> list[bytes]:
        """Restore the names of a part as owners do; return the links whose data was not among them."""
        number = [image.id for image in self.images].index(part.image.id)
        with archive_support.directory(to) as descriptor:
            targets = [
                archive_support.Target(
                    name.original_path or b"/",
                    descriptor,
                    name.destination_path,
                    None if name.fh_info == ALL_ONES else name.fh_info,
                    entry,
                )
                for entry, name in enumerate(part.names)
            ]
            seen = archive_support.Recorder()
            reader = archive_support.MemberReader(archive_support.source_of(self.archive.images[number]))
            existing = Existing.OVERWRITE if overwrites else Existing.KEEP
            options = ExtractOptions(second_pass=True, existing=existing)
            result = archive_support.Extractor(reader, targets, seen, options).run()
        assert seen.problems == []
        assert all(source.members for source in result.sources)
        return result.lost_links


def without_directory_times(tree: dict[str, Any]) -> dict[str, Any]:
    """A tree in which only files have a time."""
    return {name: what if what[3] else (what[0], *what[2:]) for name, what in tree.items()}


@pytest.fixture
def days(catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Days:
    """A tree; change times are trusted at once."""
    monkeypatch.setattr(treestate, "SETTLED_NS", -(10**18))
    made = Days(catalogue, tmp_path)
    for name in ("a/b/c", "d/e", "f"):
        (made.root / name).mkdir(parents=True)
        (made.root / name / "file").write_text(name)
    return made


@pytest.mark.parametrize("seed", SEEDS)
def test_every_day_is_listed_and_restored(days: Days, tmp_path: Path, seed: int) -> None:
    """Whatever happened between: each day's names are listed, and what is asked of the images makes its tree.

    Where nothing is replaced, the newest image comes first, and directories get the time of what comes later.
    """
    random = Random(seed)
    for _ in range(DAYS):
        days.save()
        for _ in range(random.randrange(1, 10)):
            change(days.root, random)
    for day, tree in enumerate(days.trees):
        chain = Chain(days.catalogue, days.images[day])
        top = chain.find(b"/")
        assert top is not None
        listed = {entry.path[1:].decode() for entry in chain.list(b"/", top, recursive=True)}
        assert listed == set(tree)
        for overwrites in (True, False):
            to = tmp_path / f"back-{day}-{overwrites}"
            days.restore(day, to, overwrites=overwrites)
            same = dict if overwrites else without_directory_times
            assert same(snapshot(to)) == same(tree)


@pytest.mark.parametrize("seed", range(10))
def test_a_rebuilt_catalogue_knows_every_day(days: Days, tmp_path: Path, seed: int) -> None:
    """What a lost catalogue knew of unchanged names and of moves comes back from the images themselves."""
    random = Random(seed)
    for _ in range(DAYS):
        days.save()
        for _ in range(random.randrange(1, 10)):
            change(days.root, random)
    with open_catalogue(tmp_path / "rebuilt.sqlite") as rebuilt:
        base: str | None = None
        for level, (data, tree) in enumerate(zip(days.archive.images, days.trees, strict=True)):
            job = jobs.create(rebuilt, [b"/"], "fs1", level)
            image = media.add_image(rebuilt, job, 1, b"/", 1024, level=level, base=base)
            base = image.uuid
            rows = IndexRows(rebuilt.path, image)
            Verifier(archive_support.source_of(data), rows).run()
            rows.finish()
            rows.close()
            chain, before = Chain(rebuilt, image), Chain(days.catalogue, days.images[level])
            top = chain.find(b"/")
            assert top is not None
            found = {entry.path: entry.offset for entry in chain.list(b"/", top, recursive=True)}
            assert {path[1:].decode() for path in found} == set(tree)
            for path in found:
                known, again = before.find(path), chain.find(path)
                assert known is not None
                assert again is not None
                assert (again.depth, again.path) == (known.depth, known.path)
