"""Trees saved again and again, each time as what changed since the last; and what comes of it, restored."""

import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from appliance.archive.changes import Changes
from appliance.archive.frame import END_OF_ARCHIVE, global_header
from appliance.archive.outcome import ExtractOptions
from appliance.archive.part import Observer, PartRequest, PartResult
from appliance.archive.treestate import BaseState, NextState
from appliance.archive.writer import write_part
from tests.unit.archive.archive_support import Recorder, directory, extract


@dataclass
class Chain:
    """A tree at `root`, its images in order, and the state that the last one left."""

    root: Path
    states: Path
    images: list[bytes] = field(default_factory=list)
    seen: list[Recorder] = field(default_factory=list)
    results: list[PartResult] = field(default_factory=list)
    changes: Changes | None = None

    def save(self, observer: Observer | None = None, **fields: object) -> bytes:
        """Save the tree: whole the first time, then what changed since the last; return the image."""
        number = len(self.images)
        last = self.states / f"{number - 1}"
        head = global_header(f"job{number}", b"/")
        following = NextState(self.states / f"{number}")
        base = BaseState(last) if number else None
        self.changes = Changes(base, following, is_incremental=bool(number))
        seen = Recorder()
        body = bytearray()
        defaults: dict[str, object] = {
            "member_prefix": b"/",
            "job": f"job{number}",
            "stream_offset": len(head),
        }
        with directory(self.root) as descriptor:
            request = PartRequest(root=descriptor, **(defaults | fields))  # type: ignore[arg-type]
            self.results.append(
                write_part(request, body.extend, observer or seen, lambda: False, self.changes)
            )
        assert self.changes.finish()
        assert not self.changes.failures
        self.changes.close()
        self.seen.append(seen)
        self.images.append(head + bytes(body) + END_OF_ARCHIVE)
        return self.images[-1]

    def saved(self) -> list[bytes]:
        """The paths of all members of the last image."""
        return sorted(entry.path for entry in self.seen[-1].entries)

    def restore_with_gnu_tar(self, target: Path) -> str:
        """Extract all images in order as GNU tar extracts incremental archives; return what it says."""
        target.mkdir()
        said = ""
        for image in self.images:
            command = ["tar", "--extract", "--incremental", "--numeric-owner", "-p", "-C", str(target)]
            done = subprocess.run(command, input=image, capture_output=True, check=False)
            said += done.stderr.decode("utf-8", "replace")
        return said

    def restore(self, target: Path) -> list[tuple[bytes, str]]:
        """Restore all images in order, following their lists; return the problems."""
        seen = Recorder()
        for image in self.images:
            extract(image, target, options=ExtractOptions(incremental=True), observer=seen)
        return seen.problems


def rotated(top: Path, names: list[str]) -> None:
    """Rename directories as rsnapshot does: the last one goes, the others move up, the first is new."""
    shutil.rmtree(top / names[-1])
    for older, newer in zip(reversed(names), list(reversed(names))[1:], strict=False):
        (top / newer).rename(top / older)
    (top / names[0]).mkdir()
