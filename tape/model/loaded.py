"""What every part of a model drive works on: the cartridge in it, and where the tape stands."""

from __future__ import annotations

from typing import Protocol

from tape.model.cartridge import Cartridge, CartridgeKind
from tape.model.outcome import MEDIUM_CHANGED
from tape.model.unit import CheckCondition, LogicalUnit, UnitIdentity
from tape.model.usage import Usage
from tape.sense import Sense, SenseKey

__all__ = ["AtObject", "TapeUnit"]

NO_MEDIUM = (0x3A, 0x00)
WRITE_PROTECTED = (0x27, 0x00)
CLEANING_INSTALLED = (0x30, 0x03)
WORM_OVERWRITE = (0x30, 0x0C)

# TapeAlert flags (SSC-4, annex A).
ALERT_READ_FAILURE, ALERT_WRITE_FAILURE, ALERT_WRITE_PROTECT, ALERT_CLEANING_MEDIA = 5, 6, 9, 11
ALERT_CLEAN_NOW, ALERT_CLEAN_PERIODIC = 20, 21


class AtObject(Protocol):
    """`FaultPlan.at_object`."""

    def __call__(self, barcode: str, number: int, *, write: bool) -> None:
        """Raise CheckCondition where the object cannot be used."""


class TapeUnit(LogicalUnit):
    """A drive, as far as it is a place for a cartridge.

    Args:
        serial: unit serial number.
        early_warning_bytes: room left on a cartridge from which on every write gives early warning;
            at most half of the cartridge.
        at_object: asked with barcode and number of every object before it is read or written; raises
            CheckCondition where that goes wrong.

    Attributes:
        cartridge: what lies in the drive, threaded or ejected; None if it is empty.
        loaded: the cartridge is threaded.
        position: number of the next object.
        usage: what the cartridge's memory counts; None without a cartridge.
        alerts: TapeAlert flags that are up.

    """

    def __init__(self, serial: str, early_warning_bytes: int, at_object: AtObject) -> None:
        super().__init__(UnitIdentity(1, "VIRTUAL DRIVE", serial))
        self.cartridge: Cartridge | None = None
        self.loaded = False
        self.position = 0
        self.usage: Usage | None = None
        self.alerts: set[int] = set()
        self.dirty = False
        self._early_warning_bytes = early_warning_bytes
        self._at_object = at_object

    # -- what the changer and the operator do --------------------------------------------------------
    def insert(self, cartridge: Cartridge, *, is_power_on: bool = False) -> None:
        """Take a cartridge and thread it.  One that lay in it at power on is no news."""
        with self.lock:
            self.cartridge = cartridge
            self.usage = Usage.of(cartridge.path)
            self.thread(is_news=not is_power_on)

    def eject(self) -> Cartridge | None:
        """Give the cartridge out, unthreading it first if need be.  None if there is none."""
        with self.lock:
            cartridge = self.cartridge
            self.flush()
            self.cartridge, self.loaded, self.usage = None, False, None
            return cartridge

    def thread(self, *, is_news: bool) -> None:
        """Load the cartridge that lies in the drive; a cleaning cartridge cleans instead."""
        assert self.cartridge is not None
        assert self.usage is not None
        self.position = 0
        if self.cartridge.header.kind == CartridgeKind.CLEANING:
            self.alerts -= {ALERT_CLEAN_NOW, ALERT_CLEAN_PERIODIC}
            self.alerts.add(ALERT_CLEANING_MEDIA)
            return
        self.loaded = True
        if is_news:
            self.usage.begin_mount()
            self.attention(MEDIUM_CHANGED)

    def flush(self) -> None:
        """Have everything on the medium, and the counts in the cartridge's memory."""
        if self.cartridge is not None and self.dirty:
            self.cartridge.flush()
        self.dirty = False
        if self.cartridge is not None and self.usage is not None:
            self.usage.save(self.cartridge.path)

    # -- readiness -----------------------------------------------------------------------------------
    def require_ready(self) -> None:
        """Raise NOT READY unless a cartridge is threaded."""
        self.tape()

    def tape(self) -> Cartridge:
        """Return the threaded cartridge; NOT READY without one, or with one that only cleans."""
        if self.cartridge is not None and self.cartridge.header.kind == CartridgeKind.CLEANING:
            raise CheckCondition(Sense(SenseKey.NOT_READY, *CLEANING_INSTALLED))
        if self.cartridge is None or not self.loaded:
            raise CheckCondition(Sense(SenseKey.NOT_READY, *NO_MEDIUM))
        return self.cartridge

    def writable_tape(self) -> Cartridge:
        """Return the cartridge if it may be written here (SSC-4, 4.2.13): a WORM at its end only."""
        tape = self.tape()
        if tape.header.write_protected:
            self.alerts.add(ALERT_WRITE_PROTECT)
            raise CheckCondition(Sense(SenseKey.DATA_PROTECT, *WRITE_PROTECTED))
        if tape.header.kind == CartridgeKind.WORM and self.position < tape.count:
            raise CheckCondition(Sense(SenseKey.DATA_PROTECT, *WORM_OVERWRITE))
        return tape

    def touch(self, *, write: bool) -> None:
        """Let a scripted medium error happen at the current position; it raises its TapeAlert, too."""
        assert self.cartridge is not None
        assert self.usage is not None
        try:
            self._at_object(self.cartridge.header.barcode, self.position, write=write)
        except CheckCondition:
            self.alerts.add(ALERT_WRITE_FAILURE if write else ALERT_READ_FAILURE)
            self.usage.count_error(write=write)
            raise

    def left(self, tape: Cartridge) -> int:
        """Return the room behind the current position, in bytes."""
        return tape.header.capacity_bytes - tape.used_before(self.position)

    def behind_early_warning(self, tape: Cartridge) -> bool:
        """Tell whether a write here is warned about."""
        return self.left(tape) <= min(self._early_warning_bytes, tape.header.capacity_bytes // 2)
