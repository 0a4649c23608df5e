"""XDR (RFC 4506), the part that NDMP uses: structures declared as dataclasses, coded from the declaration.

Declare a structure with `@struct` and annotate its fields:

    U8, U16, U32, U64     unsigned numbers (the two short ones take four bytes, RFC 4506 section 4.1)
    Opaque                variable-length opaque data or a string: `bytes`, never re-encoded
    an IntEnum            four bytes; a value that the enumeration lacks is a fault of the peer
    a structure           in place
    tuple[X, ...]         variable-length array

Runs of numbers are packed by one call: file history sends hundreds of thousands of them.
"""

from __future__ import annotations

import dataclasses
import struct as _struct
from enum import IntEnum
from typing import (
    Annotated,
    Any,
    ClassVar,
    TypeVar,
    cast,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

from appliance.ndmp.enums import ErrorCode
from appliance.ndmp.errors import LocalMisuseError, RemoteFaultError

__all__ = ["U8", "U16", "U32", "U64", "Codec", "Cursor", "Opaque", "Struct", "XdrError", "codec_of", "struct"]

ARRAY_LENGTH_MAX = 1 << 20
"""Elements in one array: 250 times the largest file history message seen from a filer (4,096)."""

T = TypeVar("T")
E = TypeVar("E", bound=IntEnum)


class XdrError(RemoteFaultError):
    """Bytes that are not the XDR of what was expected: too short or long, or an unknown enumeration value."""

    def __init__(self, text: str) -> None:
        super().__init__(text, ErrorCode.XDR_DECODE)


class UnknownValueError(XdrError):
    """A value that its enumeration lacks: the message is whole, one of its arguments is not legal."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.code = ErrorCode.ILLEGAL_ARGS


_MEMBERS: dict[type[IntEnum], dict[int, IntEnum]] = {}


def member_of(enum: type[E], value: int) -> E:
    """The member with this value: a look-up, several times as fast as calling the enumeration.

    File history has three in each entry.  Raises UnknownValueError.
    """
    members = _MEMBERS.get(enum)
    if members is None:
        members = _MEMBERS[enum] = {int(member): member for member in enum}
    try:
        return cast(E, members[value])
    except KeyError:
        raise UnknownValueError(f"{value} is no {enum.__name__}") from None


@dataclasses.dataclass(frozen=True)
class _Number:
    """A fixed-size field: its `struct` letter, and the enumeration or the largest value that it has."""

    letter: str
    enum: type[IntEnum] | None = None
    largest: int | None = None

    def converted(self, value: int) -> int:
        """The number as a member of the enumeration.  Raises XdrError for what the field cannot hold."""
        if self.largest is not None and value > self.largest:
            raise XdrError(f"{value} is more than {self.largest}, the most that its field holds")
        return value if self.enum is None else member_of(self.enum, value)


U8 = Annotated[int, _Number("I", largest=0xFF)]
U16 = Annotated[int, _Number("I", largest=0xFFFF)]
U32 = Annotated[int, _Number("I")]
U64 = Annotated[int, _Number("Q")]
Opaque = bytes


class Cursor:
    """A position in received bytes."""

    __slots__ = ("data", "position")

    def __init__(self, data: bytes, position: int = 0) -> None:
        self.data = data
        self.position = position

    def opaque(self) -> bytes:
        """Variable-length opaque data (RFC 4506, 4.10).  Raises XdrError when it runs past the end."""
        start = self.position + 4
        if start > len(self.data):
            raise XdrError("a length field runs past the end of the message")
        length = int.from_bytes(self.data[self.position : start], "big")
        end = start + length
        if end + (-length & 3) > len(self.data):
            raise XdrError(f"opaque data of {length} bytes runs past the end of the message")
        self.position = end + (-length & 3)
        return self.data[start:end]

    @property
    def at_end(self) -> bool:
        """Whether all bytes were consumed."""
        return self.position >= len(self.data)

    def finish(self) -> None:
        """Raise XdrError unless all bytes were consumed."""
        left = len(self.data) - self.position
        if left:
            raise XdrError(f"{left} bytes too many in the message")


class Codec:
    """Encoder and decoder of one type."""

    def encode(self, value: Any, out: bytearray) -> None:
        """Append the XDR of `value` to `out`."""
        raise NotImplementedError

    def decode(self, cursor: Cursor) -> Any:
        """Take one value.  Raises XdrError."""
        raise NotImplementedError


class _OpaqueCodec(Codec):
    def encode(self, value: Any, out: bytearray) -> None:
        length = len(value)
        out += length.to_bytes(4, "big")
        out += value
        out += b"\0\0\0"[: -length & 3]

    def decode(self, cursor: Cursor) -> bytes:
        return cursor.opaque()


class _NumbersCodec(Codec):
    """A run of consecutive numbers, coded as one tuple."""

    def __init__(self, numbers: list[_Number]) -> None:
        self.packer = _struct.Struct(">" + "".join(number.letter for number in numbers))
        self.checked = [
            (i, number) for i, number in enumerate(numbers) if number.enum or number.largest is not None
        ]

    def encode(self, value: Any, out: bytearray) -> None:
        try:
            for index, number in self.checked:
                number.converted(value[index])
            out += self.packer.pack(*value)
        except (_struct.error, XdrError) as error:
            raise LocalMisuseError(
                f"{value} does not fit its fields: {error}", ErrorCode.XDR_ENCODE
            ) from error

    def decode(self, cursor: Cursor) -> tuple[int, ...]:
        try:
            values = self.packer.unpack_from(cursor.data, cursor.position)
        except _struct.error as error:
            raise XdrError("the message is too short") from error
        cursor.position += self.packer.size
        if not self.checked:
            return values
        converted = list(values)
        for index, number in self.checked:
            converted[index] = number.converted(converted[index])
        return tuple(converted)


class _ArrayCodec(Codec):
    def __init__(self, element: Codec) -> None:
        self.element = element
        self.length = _NumbersCodec([_Number("I")])

    def encode(self, value: Any, out: bytearray) -> None:
        self.length.encode((len(value),), out)
        encode = self.element.encode
        for item in value:
            encode(item, out)

    def decode(self, cursor: Cursor) -> tuple[Any, ...]:
        (length,) = self.length.decode(cursor)
        if length > ARRAY_LENGTH_MAX or length * 4 > len(cursor.data) - cursor.position:
            raise XdrError(f"an array of {length} elements runs past the end of the message")
        decode = self.element.decode
        return tuple(decode(cursor) for _ in range(length))


class _SingleNumberCodec(Codec):
    """One number as an array element: a run of one, without its tuple."""

    def __init__(self, number: _Number) -> None:
        self.run = _NumbersCodec([number])

    def encode(self, value: Any, out: bytearray) -> None:
        self.run.encode((value,), out)

    def decode(self, cursor: Cursor) -> int:
        return self.run.decode(cursor)[0]


class StructCodec(Codec):
    """A structure: its fields in order, consecutive numbers packed together."""

    def __init__(self, cls: type[Any]) -> None:
        self.cls = cls
        self.steps: list[tuple[tuple[str, ...], bool, Codec]] = []
        hints = get_type_hints(cls, include_extras=True)
        run: list[tuple[str, _Number]] = []
        for field in dataclasses.fields(cls):
            number = _number_of(hints[field.name])
            if number is not None:
                run.append((field.name, number))
                continue
            self._close(run)
            self.steps.append(((field.name,), False, codec_of(hints[field.name])))
        self._close(run)

    def _close(self, run: list[tuple[str, _Number]]) -> None:
        if run:
            names = tuple(name for name, _ in run)
            self.steps.append((names, True, _NumbersCodec([number for _, number in run])))
            run.clear()

    def encode(self, value: Any, out: bytearray) -> None:
        """Append the fields of `value` in order."""
        for names, is_run, codec in self.steps:
            if is_run:
                codec.encode([getattr(value, name) for name in names], out)
            else:
                codec.encode(getattr(value, names[0]), out)

    def decode(self, cursor: Cursor) -> Any:
        """Take the fields in order and build the structure."""
        values: list[Any] = []
        for _, is_run, codec in self.steps:
            if is_run:
                values.extend(codec.decode(cursor))
            else:
                values.append(codec.decode(cursor))
        return self.cls(*values)


class Struct:
    """Base of declared structures."""

    codec: ClassVar[Codec | None] = None

    def to_bytes(self) -> bytes:
        """The XDR of this structure."""
        out = bytearray()
        codec_of(type(self)).encode(self, out)
        return bytes(out)

    @classmethod
    def from_bytes(cls: type[T], data: bytes) -> T:
        """The structure whose XDR is exactly `data`.  Raises XdrError."""
        cursor = Cursor(data)
        value: T = codec_of(cls).decode(cursor)
        cursor.finish()
        return value


@dataclass_transform(frozen_default=True)
def struct(cls: type[T]) -> type[T]:
    """Declare an XDR structure: a frozen dataclass whose codec follows its annotations."""
    return dataclasses.dataclass(frozen=True)(cls)


def _number_of(hint: Any) -> _Number | None:
    if get_origin(hint) is Annotated:
        for mark in get_args(hint)[1:]:
            if isinstance(mark, _Number):
                return mark
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        return _Number("I", hint)
    return None


_OPAQUE = _OpaqueCodec()
_CACHE: dict[Any, Codec] = {}


def codec_of(hint: Any) -> Codec:
    """The codec of an annotation.  Raises TypeError for one that XDR has no form for."""
    codec = _CACHE.get(hint)
    if codec is None:
        codec = _CACHE[hint] = _make_codec(hint)
    return codec


def _make_codec(hint: Any) -> Codec:
    number = _number_of(hint)
    if number is not None:
        return _SingleNumberCodec(number)
    if hint is bytes:
        return _OPAQUE
    if get_origin(hint) is tuple:
        return _ArrayCodec(codec_of(get_args(hint)[0]))
    if isinstance(hint, type) and issubclass(hint, Struct):
        own: Codec | None = hint.__dict__.get("codec")
        return own if own is not None else StructCodec(hint)
    raise TypeError(f"XDR has no form for {hint!r}")
