"""Sense data: what a device says about a command that did not simply succeed (SPC-4, 4.5).

Both formats, fixed (70h, 71h) and descriptor (72h, 73h), become one `Sense`.  Parsing never fails:
sense comes from a device that is in trouble already, and a second error would hide the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from tape.errors import (
    BlankCheckError,
    DeviceError,
    EndOfMediumError,
    FilemarkError,
    HardwareError,
    IllegalRequestError,
    MediumError,
    NoMediumError,
    NotReadyError,
    ReservationConflictError,
    UnitAttentionError,
    WriteProtectedError,
)
from tape.fields import Field, decode_fields, encode_fields
from tape.sense_codes import ASC_TEXTS, KEY_TEXTS
from tape.transport import Completion, ScsiStatus

__all__ = ["Sense", "SenseKey", "error_for"]


class SenseKey(IntEnum):
    """SPC-4, table 46."""

    NO_SENSE = 0x0
    RECOVERED_ERROR = 0x1
    NOT_READY = 0x2
    MEDIUM_ERROR = 0x3
    HARDWARE_ERROR = 0x4
    ILLEGAL_REQUEST = 0x5
    UNIT_ATTENTION = 0x6
    DATA_PROTECT = 0x7
    BLANK_CHECK = 0x8
    ABORTED_COMMAND = 0xB
    VOLUME_OVERFLOW = 0xD


# SPC-4, table 53.  INFORMATION is read as signed: for ILI it is asked minus actual length.
_FIXED = {
    "valid": Field(0x80, 0),
    "response_code": Field(0x7F, 0),
    "filemark": Field(0x80, 2),
    "eom": Field(0x40, 2),
    "ili": Field(0x20, 2),
    "key": Field(0x0F, 2),
    "information": Field(0xFFFFFFFF, 3, signed=True),
    "additional_length": Field(0xFF, 7),
    "asc": Field(0xFF, 12),
    "ascq": Field(0xFF, 13),
}
_FIXED_LENGTH = 18
_DEFERRED = (0x71, 0x73)
_DESCRIPTOR_HEADER = 8
_DESCRIPTOR_INFORMATION = 0x00  # SPC-4, 4.5.2.2
_DESCRIPTOR_STREAM = 0x04  # SSC-4, 4.2.17: FILEMARK, EOM, ILI in byte 3
_ASC_NO_MEDIUM = 0x3A
_END_OF_DATA = (0x00, 0x05)
_PHYSICAL_END = (0x00, 0x02)


@dataclass(frozen=True, slots=True)
class Sense:
    """One parsed report.

    Attributes:
        key: sense key, see `SenseKey`.
        asc, ascq: additional sense code and qualifier.
        filemark, eom, ili: the three stream bits (SSC-4): filemark met, end (or beginning) of medium
            or early warning, incorrect length.
        information: signed; None unless the device marked it valid.
        deferred: it is about an earlier command; the current one was not executed.
        raw: the bytes it came from.

    """

    key: int
    asc: int = 0
    ascq: int = 0
    filemark: bool = False
    eom: bool = False
    ili: bool = False
    information: int | None = None
    deferred: bool = False
    raw: bytes = b""

    @classmethod
    def parse(cls, data: bytes) -> Sense:
        """Read sense bytes of any length and format; what is missing counts as zero."""
        if not data:
            return cls(SenseKey.NO_SENSE)
        if data[0] & 0x7F in (0x72, 0x73):
            return cls._parse_descriptors(data)
        values = decode_fields(_FIXED, data)
        return cls(
            values["key"],
            values["asc"],
            values["ascq"],
            filemark=bool(values["filemark"]),
            eom=bool(values["eom"]),
            ili=bool(values["ili"]),
            information=values["information"] if values["valid"] else None,
            deferred=values["response_code"] in _DEFERRED,
            raw=bytes(data),
        )

    @classmethod
    def _parse_descriptors(cls, data: bytes) -> Sense:
        """Read the descriptor format (SPC-4, 4.5.2)."""
        head = bytes(data[:_DESCRIPTOR_HEADER]).ljust(_DESCRIPTOR_HEADER, b"\0")
        bits, information = 0, None
        place = _DESCRIPTOR_HEADER
        while place + 2 <= len(data):
            kind, body = data[place], data[place + 2 : place + 2 + data[place + 1]]
            if kind == _DESCRIPTOR_INFORMATION and len(body) >= 10 and body[0] & 0x80:
                information = int.from_bytes(body[2:10], "big", signed=True)
            elif kind == _DESCRIPTOR_STREAM and len(body) >= 2:
                bits = body[1]
            place += 2 + data[place + 1]
        return cls(
            head[1] & 0x0F,
            head[2],
            head[3],
            filemark=bool(bits & 0x80),
            eom=bool(bits & 0x40),
            ili=bool(bits & 0x20),
            information=information,
            deferred=head[0] & 0x7F in _DEFERRED,
            raw=bytes(data),
        )

    def encode(self) -> bytes:
        """Return the report in fixed format, 18 bytes.

        Raises:
            TapeMisuseError: the information does not fit into 32 signed bits.

        """
        values = {
            "valid": int(self.information is not None),
            "response_code": 0x71 if self.deferred else 0x70,
            "filemark": int(self.filemark),
            "eom": int(self.eom),
            "ili": int(self.ili),
            "key": self.key,
            "information": self.information or 0,
            "additional_length": _FIXED_LENGTH - 8,
            "asc": self.asc,
            "ascq": self.ascq,
        }
        return bytes(encode_fields(_FIXED_LENGTH, _FIXED, values))

    @property
    def code(self) -> tuple[int, int]:
        """ASC and ASCQ, to compare with one table entry."""
        return self.asc, self.ascq

    @property
    def text(self) -> str:
        """The report in words and numbers, e.g. "ILLEGAL REQUEST 05/20/00: invalid command"."""
        key = KEY_TEXTS.get(self.key, "SENSE KEY")
        words = [f"{key} {self.key:02x}/{self.asc:02x}/{self.ascq:02x}"]
        detail = ASC_TEXTS.get(self.code) or ASC_TEXTS.get((self.asc, 0)) if self.code != (0, 0) else None
        if detail:
            words[0] += f": {detail}"
        flags = {"filemark": self.filemark, "end of medium": self.eom, "incorrect length": self.ili}
        words += [name for name, is_set in flags.items() if is_set]
        if self.information is not None:
            words.append(f"information {self.information}")
        if self.deferred:
            words.append("about an earlier command")
        return ", ".join(words)


_ERRORS: dict[int, tuple[type[DeviceError], str]] = {
    SenseKey.NOT_READY: (NotReadyError, "the device is not ready"),
    SenseKey.MEDIUM_ERROR: (MediumError, "the tape is damaged here"),
    SenseKey.HARDWARE_ERROR: (HardwareError, "the device reports a defect"),
    SenseKey.ILLEGAL_REQUEST: (IllegalRequestError, "the device refuses the command"),
    SenseKey.UNIT_ATTENTION: (UnitAttentionError, "the device was reset or its medium changed"),
    SenseKey.DATA_PROTECT: (WriteProtectedError, "the medium is write protected"),
    SenseKey.BLANK_CHECK: (BlankCheckError, "end of data"),
    SenseKey.VOLUME_OVERFLOW: (EndOfMediumError, "the tape is full"),
}


def error_for(completion: Completion, name: str, what: str = "command") -> DeviceError | None:
    """Turn the end of a command into the error to raise, or None where there is nothing to complain about.

    Args:
        completion: as a transport returned it.
        name: the device, for the message.
        what: the command, for the message (`commands.name_of`).

    NO SENSE with a stream bit is an error here; callers for whom it is not (READ, WRITE) look at the
    sense first.

    """
    status = completion.status
    if status == ScsiStatus.GOOD:
        return None
    if status == ScsiStatus.RESERVATION_CONFLICT:
        return ReservationConflictError(f"{what}: reserved by another initiator", device=name)
    if status in (ScsiStatus.BUSY, ScsiStatus.TASK_SET_FULL):
        return NotReadyError(f"{what}: the device is busy", device=name)
    if status != ScsiStatus.CHECK_CONDITION:
        return DeviceError(f"{what}: status {status:02x}", device=name)
    sense = Sense.parse(completion.sense)
    kind, text = _judge(sense)
    return None if kind is None else kind(f"{what}: {text}", device=name, sense=sense)


def _judge(sense: Sense) -> tuple[type[DeviceError] | None, str]:
    """Choose error and words for a CHECK CONDITION.

    The key decides, then the stream bits; ASC only where the key leaves it open, because emulators
    and old drives are careless with it (tape.md, tgt fault 8).
    """
    if sense.key in (SenseKey.NO_SENSE, SenseKey.RECOVERED_ERROR):
        return _judge_harmless(sense)
    if sense.key == SenseKey.NOT_READY and sense.asc == _ASC_NO_MEDIUM:
        return NoMediumError, "no cartridge is loaded"
    if sense.key == SenseKey.MEDIUM_ERROR and sense.code == _PHYSICAL_END and sense.eom:
        return EndOfMediumError, "physical end of the tape"
    return _ERRORS.get(sense.key, (DeviceError, "the command failed"))


def _judge_harmless(sense: Sense) -> tuple[type[DeviceError] | None, str]:
    """Choose for NO SENSE and RECOVERED ERROR, where only the stream bits can mean something."""
    if sense.filemark:
        return FilemarkError, "a filemark was met"
    if sense.code == _END_OF_DATA:
        return BlankCheckError, "end of data"
    if sense.eom:
        return EndOfMediumError, "beginning or end of the tape"
    if sense.ili:
        return DeviceError, "the record has another length"
    return None, ""
