"""One connection of an initiator, which is one session: bytes in, events and bytes out, no I/O (RFC 7143).

After the login each SCSI command becomes an `Execute` event as soon as its data is complete; whoever
carries it out hands the end to `complete`.  Commands of one session may end in any order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tape.iscsi.errors import IscsiProtocolError
from tape.iscsi.login import RECEIVE_SEGMENT, LoginPhase, Parameters
from tape.iscsi.pdu import NO_TAG, RESPONSES, Decoder, Pdu
from tape.iscsi.task import TRANSFER_BYTES_MAX, Task
from tape.iscsi.text import TEXT_BYTES_MAX, decode_text, encode_text
from tape.transport import Completion, ScsiStatus

__all__ = ["Aborted", "Closed", "Event", "Execute", "LoggedIn", "Session", "UnitReset"]

WINDOW = 32
"""Commands that may be under way in one session: an initiator sends a few to each of its units."""

DATA_BYTES_MAX = 64 << 20
"""Data of all commands under way that one session may make us hold: four of the longest, 256 of the usual."""

_MASK = 0xFFFFFFFF
# Task management functions and responses (11.5.1, 11.6.1).
ABORT_TASK, ABORT_TASK_SET, CLEAR_TASK_SET, LUN_RESET, WARM_RESET, COLD_RESET = 1, 2, 4, 5, 6, 7
_COMPLETE, _NO_TASK, _NO_LUN, _NOT_SUPPORTED = 0, 1, 2, 5
_COMMAND_NOT_SUPPORTED = 0x05  # reason of a Reject (11.17.1)
_LOGOUT_SESSION, _LOGOUT_CONNECTION = 0, 1
# They belong to a command and have no CmdSN of their own.
_UNNUMBERED = ("Data-Out", "SNACK Request")


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """The full feature phase has begun.

    Attributes:
        nexus: name of the initiator's end: a later login of the same name replaces this session.
        parameters: what was agreed on.

    """

    nexus: str
    parameters: Parameters


@dataclass(frozen=True, slots=True)
class Execute:
    """A command is to be carried out; `Session.complete` ends it."""

    task: Task


@dataclass(frozen=True, slots=True)
class Aborted:
    """The initiator gave commands of this unit up; one that waits there should wait no longer."""

    lun: int


@dataclass(frozen=True, slots=True)
class UnitReset:
    """A unit, or with None all of them, was reset by this session."""

    lun: int | None


@dataclass(frozen=True, slots=True)
class Closed:
    """The session ends once the output is sent."""


Event = LoggedIn | Execute | Aborted | UnitReset | Closed


def lun_of(field: int) -> int:
    """Return the number in an 8-byte LUN, peripheral or flat; -1 for any other form (SAM-5, 4.7)."""
    first, rest = field >> 48, field & 0xFFFFFFFFFFFF
    if rest or first >> 14 not in (0, 1):
        return -1
    return first & 0x3FFF if first >> 14 else (first if first <= 0xFF else -1)


class Session:
    """The target's side.

    Args:
        target: its name.
        session_id: TSIH, not 0.
        portal: address and port this connection came in at, as SendTargets reports it.
        luns: numbers of the units there are, asked each time.

    """

    def __init__(self, target: str, session_id: int, portal: str, luns: frozenset[int]) -> None:
        self._target = target
        self._session_id = session_id
        self._portal = portal
        self._luns = luns
        self._login = LoginPhase(target)
        self._decoder = Decoder(RECEIVE_SEGMENT)
        self._tasks: dict[int, Task] = {}
        self._next_tag = 1
        self._expected_command = 0
        self._text = bytearray()
        self._output: list[bytes | memoryview] = []
        self.closed = False

    @property
    def logged_in(self) -> bool:
        """Whether the login is complete."""
        return self._login.done

    def output(self) -> list[bytes | memoryview]:
        """Return what is to be sent, in order, once."""
        ready, self._output = self._output, []
        return ready

    def receive(self, data: bytes | memoryview) -> Iterator[Event]:
        """Take received bytes and yield what they mean.

        Raises:
            IscsiProtocolError: the connection is to be closed at once.

        """
        for pdu in self._decoder.feed(data):
            if self.closed:
                return
            if self._login.done:
                yield from self._full_feature(pdu)
            else:
                yield from self._log_in(pdu)

    def _log_in(self, pdu: Pdu) -> Iterator[Event]:
        self._output += self._login.receive(pdu, self._session_id)
        if self._login.failed:
            self.closed = True
            yield Closed()
        elif self._login.done:
            self._expected_command = self._login.next_command
            parameters = self._login.parameters
            yield LoggedIn(f"{parameters.initiator},i,{self._login.isid:012x}", parameters)

    # -- full feature phase --------------------------------------------------------------------------
    def _full_feature(self, pdu: Pdu) -> Iterator[Event]:
        name = pdu.layout.name
        if name not in _UNNUMBERED and not self._in_order(pdu):
            return
        handler = {
            "NOP-Out": self._nop,
            "SCSI Command": self._command,
            "Task Management Request": self._manage,
            "Text Request": self._text_request,
            "Data-Out": self._data_out,
            "Logout Request": self._logout,
        }.get(name, self._reject)
        yield from handler(pdu)

    def _in_order(self, pdu: Pdu) -> bool:
        """Count a command (RFC 7143, 4.2.2.1); False for one outside the window, which is ignored."""
        if pdu["immediate"]:
            return True
        ahead = pdu["cmdsn"] - self._expected_command & _MASK
        if ahead >= self._window():
            return False
        if ahead:
            raise IscsiProtocolError("a command is missing in a connection that loses none")
        self._expected_command = self._expected_command + 1 & _MASK
        return True

    def _window(self) -> int:
        return max(WINDOW - len(self._tasks), 0)

    def _numbers(self, *, counts: bool = True) -> dict[str, int]:
        """Return the sequence numbers of a response; one that does not count leaves StatSN as it is."""
        statsn = self._login.next_status
        if counts:
            self._login.next_status = statsn + 1 & _MASK
        return {
            "statsn": statsn,
            "expcmdsn": self._expected_command,
            "maxcmdsn": self._expected_command + self._window() - 1 & _MASK,
        }

    def _send(self, opcode: int, data: bytes | memoryview, **values: int) -> None:
        self._output += RESPONSES[opcode].build(data, **values)

    def _nop(self, pdu: Pdu) -> Iterator[Event]:
        if pdu["itt"] != NO_TAG:
            values = {"final": 1, "lun": pdu["lun"], "itt": pdu["itt"], "ttt": NO_TAG}
            ping = pdu.data[: self._login.parameters.send_segment]
            self._send(0x20, ping, **values, **self._numbers())
        return iter(())

    def _reject(self, pdu: Pdu) -> Iterator[Event]:
        values = {"final": 1, "reason": _COMMAND_NOT_SUPPORTED, "itt": NO_TAG}
        self._send(0x3F, pdu.header, **values, **self._numbers())
        return iter(())

    def _logout(self, pdu: Pdu) -> Iterator[Event]:
        is_ours = pdu["reason"] in (_LOGOUT_SESSION, _LOGOUT_CONNECTION)
        # 0: closed; 2: recovery of a connection is not supported (11.15.1).
        self._send(0x26, b"", final=1, response=0 if is_ours else 2, itt=pdu["itt"], **self._numbers())
        if is_ours:
            self.closed = True
            yield Closed()

    def _text_request(self, pdu: Pdu) -> Iterator[Event]:
        """SendTargets (RFC 7143, appendix C); other keys are not understood."""
        self._text += pdu.data
        if len(self._text) > TEXT_BYTES_MAX:
            raise IscsiProtocolError("a text request without end")
        answers: list[tuple[str, str]] = []
        goes_on = pdu["continue"] or not pdu["final"]
        if not goes_on:
            for key, value in decode_text(bytes(self._text)):
                if key != "SendTargets":
                    answers.append((key, "NotUnderstood"))
                elif value in ("All", "", self._target):
                    answers += [("TargetName", self._target), ("TargetAddress", f"{self._portal},1")]
            self._text.clear()
        self._send(
            0x24,
            encode_text(answers),
            final=int(not goes_on),
            itt=pdu["itt"],
            # A tag, so that the initiator goes on with this request.
            ttt=1 if goes_on else NO_TAG,
            **self._numbers(),
        )
        return iter(())

    # -- commands ------------------------------------------------------------------------------------
    def _command(self, pdu: Pdu) -> Iterator[Event]:
        parameters = self._login.parameters
        if parameters.discovery:
            raise IscsiProtocolError("a SCSI command in a discovery session")
        if pdu["itt"] in self._tasks or pdu["itt"] == NO_TAG:
            raise IscsiProtocolError("a task tag that is in use")
        if pdu["read"] and pdu["write"]:
            raise IscsiProtocolError("a bidirectional command, which no tape device knows")
        expected = pdu["expected_length"] if pdu["read"] or pdu["write"] else 0
        task = Task(pdu["itt"], lun_of(pdu["lun"]), pdu.header[32:48], expected, bool(pdu["read"]))
        held = sum(other.expected for other in self._tasks.values())
        self._tasks[task.itt] = task
        if len(self._tasks) > WINDOW or expected > TRANSFER_BYTES_MAX or held + expected > DATA_BYTES_MAX:
            if not pdu["final"]:
                raise IscsiProtocolError(f"{expected} bytes of data for one command")
            self.complete(task, Completion(ScsiStatus.TASK_SET_FULL))
            return
        unsolicited = 0 if parameters.initial_r2t else parameters.first_burst
        task.begin(pdu, immediate_allowed=parameters.immediate_data, unsolicited=unsolicited)
        yield from self._advance(task)

    def _data_out(self, pdu: Pdu) -> Iterator[Event]:
        task = self._tasks.get(pdu["itt"])
        # What is still under way for a command that was aborted is dropped (11.5.1).
        if task is not None and task.take(pdu):
            yield from self._advance(task)

    def _advance(self, task: Task) -> Iterator[Event]:
        """Carry the command out, or ask for more of its data."""
        if task.complete:
            yield Execute(task)
        elif task.burst is None:
            tag, self._next_tag = self._next_tag, self._next_tag % (NO_TAG - 1) + 1
            number = task.r2t_count
            burst = task.solicit(tag, self._login.parameters.max_burst)
            self._send(
                0x31,
                b"",
                final=1,
                lun=task.lun << 48,
                itt=task.itt,
                ttt=tag,
                r2tsn=number,
                offset=burst.offset,
                desired=burst.end - burst.offset,
                **self._numbers(counts=False),
            )

    def complete(self, task: Task, done: Completion) -> None:
        """End a command: data, status and sense go out.  Nothing is sent for one that was aborted."""
        if self._tasks.get(task.itt) is task:
            del self._tasks[task.itt]
        if task.aborted or self.closed:
            return
        data = memoryview(done.data)[: task.expected] if task.is_read else memoryview(b"")
        residual = task.expected - len(data) if task.is_read else done.residual
        sent = self._send_data(task, data, done, residual)
        if sent is not None:
            sense = len(done.sense).to_bytes(2, "big") + done.sense if done.sense else b""
            self._send(
                0x21,
                sense,
                final=1,
                underflow=int(residual > 0),
                status=done.status,
                itt=task.itt,
                expdatasn=sent,
                residual=residual,
                **self._numbers(),
            )

    def _send_data(self, task: Task, data: memoryview, done: Completion, residual: int) -> int | None:
        """Send Data-In PDUs; return their number, None if the last one carried the status.

        Only GOOD may ride on data (RFC 7143, 11.7.3): sense needs a response of its own.
        """
        parameters = self._login.parameters
        place = number = 0
        while place < len(data):
            burst_end = (place // parameters.max_burst + 1) * parameters.max_burst
            end = min(place + parameters.send_segment, burst_end, len(data))
            has_status = end == len(data) and done.status == ScsiStatus.GOOD
            values = {"final": int(end in (burst_end, len(data))), "datasn": number, "offset": place}
            if has_status:
                values |= {"has_status": 1, "underflow": int(residual > 0), "residual": residual}
            self._send(
                0x25,
                data[place:end],
                itt=task.itt,
                ttt=NO_TAG,
                **values,
                **self._numbers(counts=has_status),
            )
            if has_status:
                return None
            place, number = end, number + 1
        return number

    # -- task management -----------------------------------------------------------------------------
    def _manage(self, pdu: Pdu) -> Iterator[Event]:
        """Task management (RFC 7143, 11.5): tasks are forgotten; what waits for them is told to stop."""
        function, lun = pdu["function"], lun_of(pdu["lun"])
        response = _COMPLETE
        events: list[Event] = []
        if function == ABORT_TASK:
            task = self._tasks.get(pdu["referenced"])
            if task is None:
                response = _NO_TASK
            else:
                self._abort([task])
                events.append(Aborted(task.lun))
        elif function in (ABORT_TASK_SET, CLEAR_TASK_SET, LUN_RESET):
            if lun not in self._luns:
                response = _NO_LUN
            else:
                self._abort([task for task in self._tasks.values() if task.lun == lun])
                events.append(UnitReset(lun) if function == LUN_RESET else Aborted(lun))
        elif function in (WARM_RESET, COLD_RESET):
            self._abort(list(self._tasks.values()))
            events.append(UnitReset(None))
        else:
            response = _NOT_SUPPORTED
        self._send(0x22, b"", final=1, response=response, itt=pdu["itt"], **self._numbers())
        if function == COLD_RESET:
            # A cold reset ends all sessions (11.5.1).
            self.closed = True
            events.append(Closed())
        yield from events

    def _abort(self, tasks: list[Task]) -> None:
        for task in tasks:
            task.aborted = True
            del self._tasks[task.itt]
