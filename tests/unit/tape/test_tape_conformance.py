"""The conformance checks: the model keeps every promise, sg keeps them, and broken devices are found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tape_support import (
    BARCODES,
    CAPACITY,
    CHANGER,
    DRIVE,
    FIRST_DRIVE,
    FIRST_SLOT,
    FakeKernel,
    check_condition,
    loaded,
)

from tape.changer import Changer
from tape.drive import Drive
from tape.model import LibraryModel
from tape.sense import Sense
from tape.sg import SgTransport
from tape.testing import (
    CHANGER_CHECKS,
    DRIVE_CHECKS,
    KINDS,
    TGT_CANNOT,
    Cannot,
    Check,
    ConformanceError,
    SkippedCheck,
    check_blank_check,
    check_drive_serials,
    check_empty_source,
    check_end_of_tape,
    check_filemarks,
    check_load_attention,
    check_long_read,
    check_overwrite_truncates,
    check_position,
    check_records,
    check_short_read,
    check_space_filemarks,
    check_space_records,
    check_write_protected,
)
from tape.testing.__main__ import main
from tape.transport import DEFAULT_TIMEOUT_S, Completion, DataOut, Transport

NOTHING: frozenset[Cannot] = frozenset()


@pytest.fixture
def library(tmp_path: Path) -> Iterator[LibraryModel]:
    """A library whose first drive is loaded."""
    model = loaded(tmp_path)
    yield model
    model.close()


@pytest.fixture(params=["model", "sg"])
def path_to(request: pytest.FixtureRequest, library: LibraryModel) -> Callable[[str], Transport]:
    """Give transports to a serial number: straight to the model, or through sg's structures."""

    def transport(serial: str) -> Transport:
        inner = library.transport(serial)
        return inner if request.param == "model" else SgTransport("/dev/sg0", FakeKernel(inner))

    return transport


@pytest.mark.parametrize("check", DRIVE_CHECKS, ids=lambda check: check.__name__)
def test_drive_keeps_its_promises(path_to: Callable[[str], Transport], check: Check) -> None:
    """Every drive check holds on the model, directly and through SG_IO's structures."""
    check(path_to(DRIVE), NOTHING)


@pytest.mark.parametrize("check", CHANGER_CHECKS, ids=lambda check: check.__name__)
def test_changer_keeps_its_promises(path_to: Callable[[str], Transport], check: Check) -> None:
    """Every changer check holds on the model, directly and through SG_IO's structures."""
    check(path_to(CHANGER), NOTHING)


def test_the_end_of_the_tape(library: LibraryModel) -> None:
    """Early warning, a trailer behind it, and VOLUME OVERFLOW, in this order."""
    check_end_of_tape(library.transport(DRIVE), NOTHING, 2 * CAPACITY)


def test_a_write_protected_cartridge(library: LibraryModel) -> None:
    """The tab is seen by MODE SENSE and by every write."""
    changer = Changer(library.transport(CHANGER))
    changer.move(FIRST_DRIVE, FIRST_SLOT)
    library.set_write_protected(BARCODES[0], True)
    changer.move(FIRST_SLOT, FIRST_DRIVE)
    check_write_protected(library.transport(DRIVE), NOTHING)


class Faulty(Transport):
    """A path whose answers are changed on the way, as by a device with one fault."""

    def __init__(self, inner: Transport) -> None:
        self.name = inner.name
        self.inner = inner

    def execute(
        self,
        cdb: bytes,
        *,
        data_out: DataOut = b"",
        data_in_length: int = 0,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> Completion:
        cdb, data_out = self.change(cdb, data_out)
        return self.answer(cdb, self.inner.execute(cdb, data_out=data_out, data_in_length=data_in_length))

    def change(self, cdb: bytes, data: DataOut) -> tuple[bytes, DataOut]:
        return cdb, data

    def answer(self, cdb: bytes, done: Completion) -> Completion:
        return done

    def close(self) -> None:
        self.inner.close()


class InvertedResidual(Faulty):
    """tgt 1.0.85, fault 1: only as many bytes arrive as should be missing."""

    def answer(self, cdb: bytes, done: Completion) -> Completion:
        sense = Sense.parse(done.sense)
        if cdb[0] == 0x08 and sense.ili and sense.information:
            return Completion(done.status, done.data[: sense.information][:100], done.sense, 0)
        return done


class LosesWrites(Faulty):
    """Writes zeros in place of what it was given."""

    def change(self, cdb: bytes, data: DataOut) -> tuple[bytes, DataOut]:
        return cdb, bytes(len(data)) if cdb[0] == 0x0A else data


class IgnoresFilemarks(Faulty):
    """Does not write filemarks."""

    def change(self, cdb: bytes, data: DataOut) -> tuple[bytes, DataOut]:
        return (cdb[:2] + bytes(3) + cdb[5:], data) if cdb[0] == 0x10 else (cdb, data)


class SpacesOneTooFar(Faulty):
    """Goes one object further than asked."""

    def change(self, cdb: bytes, data: DataOut) -> tuple[bytes, DataOut]:
        return (cdb[:4] + bytes([cdb[4] + 1 & 0xFF]) + cdb[5:], data) if cdb[0] == 0x11 else (cdb, data)


class ForgetsPosition(Faulty):
    """Always says that it stands at the beginning."""

    def answer(self, cdb: bytes, done: Completion) -> Completion:
        return Completion(0, bytes([0x80]) + bytes(19)) if cdb[0] == 0x34 else done


class EndOfDataIsAFilemark(Faulty):
    """Calls everything a filemark."""

    def answer(self, cdb: bytes, done: Completion) -> Completion:
        if Sense.parse(done.sense).key == 8:
            return check_condition(Sense(0, 0, 1, filemark=True, information=1))
        return done


class SaysNothing(Faulty):
    """Swallows unit attentions and refusals."""

    def answer(self, cdb: bytes, done: Completion) -> Completion:
        return Completion(0, done.data) if done.status and not Sense.parse(done.sense).ili else done


class WritesBesides(Faulty):
    """Appends where it should overwrite."""

    def answer(self, cdb: bytes, done: Completion) -> Completion:
        if cdb[0] == 0x0A:
            self.inner.execute(bytes([0x0A, 0, 0, 0, 1, 0]), data_out=b"?")
        return done


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        (InvertedResidual, check_short_read),
        (LosesWrites, check_records),
        (LosesWrites, check_long_read),
        (IgnoresFilemarks, check_filemarks),
        (SpacesOneTooFar, check_space_filemarks),
        (SpacesOneTooFar, check_space_records),
        (ForgetsPosition, check_position),
        (EndOfDataIsAFilemark, check_blank_check),
        (SaysNothing, check_load_attention),
        (WritesBesides, check_overwrite_truncates),
    ],
)
def test_a_faulty_drive_is_found(library: LibraryModel, fault: type[Faulty], check: Check) -> None:
    """A check fails on the device that breaks its promise, so a passed check means something."""
    with pytest.raises(ConformanceError):
        check(fault(library.transport(DRIVE)), NOTHING)


class SameSerials(Faulty):
    """Gives both drives one serial number."""

    def answer(self, cdb: bytes, done: Completion) -> Completion:
        return Completion(done.status, done.data.replace(b"DRV0002", b"DRV0001"), done.sense)


@pytest.mark.parametrize(
    ("fault", "check"), [(SameSerials, check_drive_serials), (SaysNothing, check_empty_source)]
)
def test_a_faulty_changer_is_found(library: LibraryModel, fault: type[Faulty], check: Check) -> None:
    """The same for changers."""
    with pytest.raises(ConformanceError):
        check(fault(library.transport(CHANGER)), NOTHING)


def test_declared_inability_is_not_asked_for(library: LibraryModel) -> None:
    """What tgt is known not to do does not fail on tgt: the check is skipped, and says why."""
    with pytest.raises(SkippedCheck, match="SHORT_READ: the residual is inverted"):
        check_short_read(InvertedResidual(library.transport(DRIVE)), TGT_CANNOT)
    with pytest.raises(SkippedCheck, match="cannot POSITION"):
        check_position(ForgetsPosition(library.transport(DRIVE)), frozenset(TGT_CANNOT))


def test_checks_leave_the_library_as_it_was(library: LibraryModel) -> None:
    """Changer checks put every cartridge back, so they can be run on a library in use."""
    changer = Changer(library.transport(CHANGER))
    before = [(e.address, e.barcode) for e in changer.inventory().elements]
    for check in CHANGER_CHECKS:
        check(library.transport(CHANGER), NOTHING)
    assert [(e.address, e.barcode) for e in changer.inventory().elements] == before


def test_write_protection_check_fails_on_a_writable_cartridge(library: LibraryModel) -> None:
    """The check for protection does not pass on a cartridge that is not protected."""
    Drive(library.transport(DRIVE)).wait_ready(0)
    with pytest.raises(ConformanceError):
        check_write_protected(library.transport(DRIVE), NOTHING)


# -- python -m tape.testing ----------------------------------------------------------------------------
def test_the_runner_tells_of_each_check(library: LibraryModel, capsys: pytest.CaptureFixture[str]) -> None:
    """One line a check; a cartridge is not overwritten unasked; a skip says why."""
    assert main(["--kind", "model", DRIVE, CHANGER], library.transport) == 0
    out = capsys.readouterr().out
    assert "passed   check_drive_identity" in out
    assert "skipped  check_records  overwrites the cartridge: say --overwrite" in out
    assert f"{CHANGER}  passed   check_move_and_back" in out
    assert main(["--kind", "model", "--overwrite", DRIVE], library.transport) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "passed" not in line] == []
    assert len(lines) == len(DRIVE_CHECKS)
    assert main(["--kind", "tgt", "--overwrite", DRIVE], library.transport) == 0
    assert "skipped  check_locate  cannot LOCATE: 05/20/00" in capsys.readouterr().out


def test_the_runner_fails_on_a_broken_promise(
    library: LibraryModel, capsys: pytest.CaptureFixture[str]
) -> None:
    """The promise and what came instead are on the line; a node that is not there is told, too."""
    faulty = {DRIVE: lambda: InvertedResidual(library.transport(DRIVE))}
    assert main(["--kind", "hardware", "--overwrite", DRIVE], lambda node: faulty[node]()) == 1
    assert "failed   check_short_read  a short record arrives whole" in capsys.readouterr().out
    assert main(["--kind", "hardware", "NOSUCH"], lambda _: SgTransport("/nonexistent/sg9")) == 1
    assert "no such device node" in capsys.readouterr().err


def test_every_kind_gives_its_reasons() -> None:
    """What a library cannot do is declared with a reason."""
    assert all(reason for kind in KINDS.values() for reason in kind.values())
