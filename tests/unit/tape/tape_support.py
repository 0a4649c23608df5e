"""What the tests of `tape` share: a library, a scripted device, sense data, a kernel."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable
from pathlib import Path

from tape.changer import Changer
from tape.drive import Drive
from tape.model import LibraryModel, LibrarySpec
from tape.sense import Sense
from tape.sg_lane import SgIoHeader, SgSystem
from tape.transport import DEFAULT_TIMEOUT_S, Completion, DataOut, ScsiStatus, Transport
from tests.unit.sg_support import carry_out

CHANGER, DRIVE, OTHER_DRIVE = "LIB0001", "DRV0001", "DRV0002"
FIRST_SLOT, FIRST_DRIVE, FIRST_PORT = 4096, 256, 768
BARCODES = ("AAA001L5", "AAA002L5", "AAA003L5")
CAPACITY = 8 << 20


def spec(**changes: object) -> LibrarySpec:
    """Two drives, five slots, three cartridges of CAPACITY bytes."""
    values: dict[str, object] = {
        "changer_serial": CHANGER,
        "drive_serials": (DRIVE, OTHER_DRIVE),
        "slots": (*BARCODES, None, None),
        "capacity_bytes": CAPACITY,
    }
    return LibrarySpec(**(values | changes))  # type: ignore[arg-type]


def loaded(folder: Path, **changes: object) -> LibraryModel:
    """A library whose first drive holds the first cartridge, with nothing left to tell."""
    library = LibraryModel(folder, spec(**changes))
    changer = Changer(library.transport(CHANGER))
    changer.wait_ready(0)
    changer.move(FIRST_SLOT, FIRST_DRIVE)
    Drive(library.transport(DRIVE)).wait_ready(0)
    return library


def check_condition(sense: Sense, data: bytes = b"") -> Completion:
    """The end of a command that a device answers with this report."""
    return Completion(ScsiStatus.CHECK_CONDITION, data, sense.encode(), 0)


class Scripted(Transport):
    """A device that answers what the test says, in order, and keeps the commands it got."""

    def __init__(self, *answers: Completion | Callable[[bytes], Completion]) -> None:
        self.name = "scripted"
        self.answers = list(answers)
        self.cdbs: list[bytes] = []
        self.sent: list[bytes] = []
        self.closed = False

    def execute(
        self,
        cdb: bytes,
        *,
        data_out: DataOut = b"",
        data_in_length: int = 0,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> Completion:
        self.cdbs.append(cdb)
        self.sent.append(bytes(data_out))
        answer = self.answers.pop(0)
        return answer(cdb) if callable(answer) else answer

    def close(self) -> None:
        self.closed = True


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class FakeKernel(SgSystem):
    """The sg driver, as far as sg_lane uses it, in front of any transport.

    As the real one it has a reserved buffer per descriptor, which unmapped transfers use as well.
    """

    real_descriptors = False

    def __init__(self, device: Transport, most: int = 1 << 20) -> None:
        self.device = device
        self.most = most
        self.open_files: set[int] = set()
        self.maps: dict[int, mmap.mmap] = {}
        self.flags: list[int] = []
        self.outcome: dict[str, int] = {}
        self.error: OSError | None = None
        self.during: Callable[[], None] | None = None
        self.submitted: dict[int, SgIoHeader] = {}
        self._next = 100

    def open(self, path: str) -> int:
        self._next += 1
        self.open_files.add(self._next)
        return self._next

    def close(self, descriptor: int) -> None:
        self.open_files.remove(descriptor)

    def reserve(self, descriptor: int, size: int) -> int:
        assert descriptor not in self.maps, "EBUSY: a mapped buffer's size cannot be changed"
        return min(size, self.most)

    def map(self, descriptor: int, size: int) -> mmap.mmap:
        self.maps[descriptor] = mmap.mmap(-1, size)
        return self.maps[descriptor]

    def submit(self, descriptor: int, header: SgIoHeader) -> None:
        if self.error:
            raise self.error
        assert not self.submitted
        self.submitted[descriptor] = header

    def collect(self, descriptor: int, header: SgIoHeader) -> None:
        assert self.submitted.pop(descriptor) is header
        self.run(descriptor, header)

    def run(self, descriptor: int, header: SgIoHeader) -> None:
        assert descriptor in self.open_files
        assert not self.submitted, "two commands at once"
        if self.during:
            self.during()
        if self.error:
            raise self.error
        self.flags.append(header.flags)
        carry_out(self.device, header, self.maps.get(descriptor))
        for name, value in self.outcome.items():
            setattr(header, name, value)


def write_files(drive: Drive, files: Iterable[Iterable[bytes]]) -> None:
    """Write tape files, each closed by a filemark."""
    for records in files:
        for record in records:
            drive.write(record)
        drive.write_filemarks(1)
