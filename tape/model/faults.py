"""Faults by script: what goes wrong, with which command, and how often.  See docs/tape-model.md.

Everything is counted in commands, never in time, so that a script gives the same run each time.  The one
use of time is how long a slow or hanging command takes, which changes no other outcome.

A plan is asked by every unit of a library before each command (`before`), by drives at each object they
read or write (`at_object`), and by the changer for each label it reports (`shown`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tape.errors import CommandTimeoutError, DeviceError, TransportError
from tape.model.outcome import CheckCondition, OtherStatus
from tape.sense import Sense, SenseKey
from tape.transport import ScsiStatus

__all__ = [
    "WAIT_SECONDS_MAX",
    "CartridgeFault",
    "CommandFault",
    "ConnectionDroppedError",
    "DeviceGoneError",
    "Dropped",
    "FaultPlan",
    "Gone",
    "Wait",
]

WAIT_SECONDS_MAX = 600.0
"""Longest slow or hanging command, in seconds: beyond every time limit a test could want to run into."""

LOOK_SECONDS = 0.05
"""How often a waiting command looks whether the faults were replaced meanwhile."""

UNTIL_RESTORED = 0
FOR_EVER = 0

_READ_ERROR, _WRITE_ERROR, _TIMED_OUT = (0x11, 0x00), (0x0C, 0x00), (0x2E, 0x01)


class ConnectionDroppedError(TransportError):
    """A scripted fault: the connection is lost without an answer."""


class DeviceGoneError(TransportError):
    """A scripted fault: the device is not there."""


@dataclass(frozen=True, slots=True)
class Wait:
    """A command takes long.

    Attributes:
        seconds: how long, at most WAIT_SECONDS_MAX.
        answers: carried out afterwards; else it hangs, and ends as ABORTED COMMAND 2E/01 without being
            carried out, unless its initiator gives it up before.

    """

    seconds: float
    answers: bool = True


@dataclass(frozen=True, slots=True)
class Gone:
    """The device disappears, and comes back after so many commands to it; 0: when `restore` is called."""

    commands: int = UNTIL_RESTORED


@dataclass(frozen=True, slots=True)
class Dropped:
    """The connection is lost, before the command is carried out or after."""

    after: bool = False


Effect = Sense | ScsiStatus | Wait | Gone | Dropped


@dataclass(slots=True)
class CommandFault:
    """Something happens instead of, or with, certain commands.

    Attributes:
        effect: sense to end with, another status, a wait, or the device or connection going away.
        device: serial number; None for every device.
        opcode: None for every command.
        nth: the first matching command it happens with, from 1.
        times: how many matching commands in a row; 0 for all from there on.
        seen: matching commands so far.

    """

    effect: Effect
    device: str | None = None
    opcode: int | None = None
    nth: int = 1
    times: int = 1
    seen: int = 0

    def strikes(self, device: str, cdb: bytes) -> bool:
        """Count a command, and tell whether it is to go wrong."""
        if self.device not in (None, device) or self.opcode not in (None, cdb[0] if cdb else None):
            return False
        self.seen += 1
        return self.seen >= self.nth and (self.times == FOR_EVER or self.seen < self.nth + self.times)


@dataclass(slots=True)
class CartridgeFault:
    """Something is wrong with a cartridge.

    Attributes:
        barcode: which.
        medium_error: number of the object (record or filemark, from 0) that cannot be used; None: none.
        on_read, on_write: with what it shows.
        times: how often; 0 for ever.
        shown_as: label that the changer reports instead of the barcode; None: the right one.

    """

    barcode: str
    medium_error: int | None = None
    on_read: bool = True
    on_write: bool = True
    times: int = FOR_EVER
    shown_as: str | None = None
    seen: int = 0

    def strikes(self, barcode: str, number: int, *, write: bool) -> bool:
        """Tell whether an object cannot be used, and count it."""
        is_meant = self.barcode == barcode and self.medium_error == number
        if not is_meant or not (self.on_write if write else self.on_read):
            return False
        self.seen += 1
        return self.times == FOR_EVER or self.seen <= self.times


class FaultPlan:
    """All faults of a library, and what has come of them.

    Faults may be added at any time, by any thread.

    Attributes:
        on_gone, on_back: told the serial number of a device that went or came back.
        on_strike: told the device, the command and the effect whenever a command fault happens.
        refresh: called before each command, and while one waits; may call `replace`.

    """

    def __init__(
        self, commands: Iterable[CommandFault] = (), cartridges: Iterable[CartridgeFault] = ()
    ) -> None:
        self._commands = list(commands)
        self._cartridges = list(cartridges)
        self._gone: dict[str, int] = {}
        self._changed = threading.Condition()
        # How often the waits at each device were ended; a wait notes the number it began with.
        self._interruptions: dict[str, int] = {}
        self.on_gone: Callable[[str], None] = lambda _serial: None
        self.on_back: Callable[[str], None] = lambda _serial: None
        self.on_strike: Callable[[str, bytes, Effect], None] = lambda _device, _cdb, _effect: None
        self.refresh: Callable[[], None] = lambda: None
        self._replaced = 0

    def add(self, fault: CommandFault | CartridgeFault) -> None:
        """Have one more thing go wrong; a command fault counts from now."""
        with self._changed:
            if isinstance(fault, CommandFault):
                self._commands.append(fault)
            else:
                self._cartridges.append(fault)

    def extend(self, other: FaultPlan) -> None:
        """Take over the faults of another plan, which must not be in use."""
        with self._changed:
            self._commands += other._commands
            self._cartridges += other._cartridges

    def replace(self, other: FaultPlan) -> None:
        """Have the faults of another plan instead, which must not be in use.

        Commands that wait are carried out now, and devices that are gone come back.
        """
        with self._changed:
            self._commands, self._cartridges = other._commands, other._cartridges
            self._replaced += 1
            gone = list(self._gone)
            self._changed.notify_all()
        for device in gone:
            self.restore(device)

    # -- commands ------------------------------------------------------------------------------------
    def ticket(self, device: str) -> int:
        """Return what `before` is to be given, so that an `interrupt` from now on ends the wait."""
        with self._changed:
            return self._interruptions.get(device, 0)

    def before(
        self, device: str, cdb: bytes, timeout_s: float, ticket: int | None = None
    ) -> DeviceError | None:
        """Let a fault happen before a command; return what happens after it was carried out.

        Args:
            device: serial number.
            cdb: the command.
            timeout_s: how long its sender waits.
            ticket: taken when the command arrived; now, if left out.

        Raises:
            CheckCondition, OtherStatus: the command ends so, and is not carried out.
            DeviceGoneError, ConnectionDroppedError, CommandTimeoutError: it gets no answer.

        """
        self.refresh()
        with self._changed:
            replaced = self._replaced
            striking = [fault for fault in self._commands if fault.strikes(device, cdb)]
        if not striking:
            return None
        # All count; the first decides.
        effect = striking[0].effect
        self.on_strike(device, cdb, effect)
        if isinstance(effect, Sense):
            raise CheckCondition(effect)
        if isinstance(effect, ScsiStatus):
            raise OtherStatus(effect)
        if isinstance(effect, Wait):
            self._wait(device, effect, timeout_s, ticket, replaced)
            return None
        if isinstance(effect, Gone):
            self.remove(device, effect.commands)
            raise DeviceGoneError("the device has disappeared", device=device)
        dropped = ConnectionDroppedError("the connection was lost", device=device)
        if effect.after:
            return dropped
        raise dropped

    def _wait(self, device: str, wait: Wait, timeout_s: float, ticket: int | None, replaced: int) -> None:
        seconds = min(wait.seconds, WAIT_SECONDS_MAX)
        deadline = time.monotonic() + min(seconds, timeout_s)
        with self._changed:
            before = self._interruptions.get(device, 0) if ticket is None else ticket
        while True:
            self.refresh()
            left = deadline - time.monotonic()
            with self._changed:
                interrupted = self._interruptions.get(device, 0) != before
                if self._replaced != replaced and not interrupted:
                    return
                if interrupted or left <= 0:
                    break
                self._changed.wait(min(left, LOOK_SECONDS))
        if not interrupted and seconds >= timeout_s:
            raise CommandTimeoutError(f"no answer within {timeout_s:g} s", device=device)
        if interrupted or not wait.answers:
            raise CheckCondition(Sense(SenseKey.ABORTED_COMMAND, *_TIMED_OUT))

    def interrupt(self, device: str) -> None:
        """End the waits of commands at a device: their initiator gave them up."""
        with self._changed:
            self._interruptions[device] = self._interruptions.get(device, 0) + 1
            self._changed.notify_all()

    # -- devices that are not there ------------------------------------------------------------------
    def remove(self, device: str, commands: int = UNTIL_RESTORED) -> None:
        """Take a device away: for so many commands to it, or until `restore`."""
        with self._changed:
            self._gone[device] = commands
        self.on_gone(device)

    def restore(self, device: str) -> None:
        """Bring a device back that was taken away; it comes as after a power on."""
        with self._changed:
            was_gone = self._gone.pop(device, None) is not None
        if was_gone:
            self.on_back(device)

    def is_gone(self, device: str, *, counts: bool = False) -> bool:
        """Tell whether a device is not there; `counts`: a command was sent to it."""
        with self._changed:
            if device not in self._gone:
                return False
            if not counts or self._gone[device] == UNTIL_RESTORED:
                return True
            self._gone[device] -= 1
            is_last = self._gone[device] == 0
            if is_last:
                del self._gone[device]
        if is_last:
            self.on_back(device)
        return True

    # -- cartridges ----------------------------------------------------------------------------------
    def at_object(self, barcode: str, number: int, *, write: bool) -> None:
        """Let a medium error happen at an object.

        Raises:
            CheckCondition: the object cannot be read or written.

        """
        with self._changed:
            strikes = any(fault.strikes(barcode, number, write=write) for fault in self._cartridges)
        if strikes:
            raise CheckCondition(Sense(SenseKey.MEDIUM_ERROR, *(_WRITE_ERROR if write else _READ_ERROR)))

    def shown(self, barcode: str) -> str:
        """Return the label that the changer reports for a cartridge."""
        with self._changed:
            lies = [f.shown_as for f in self._cartridges if f.barcode == barcode and f.shown_as is not None]
        return lies[0] if lies else barcode
