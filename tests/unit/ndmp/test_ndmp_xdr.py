"""XDR: what is declared is what is on the wire, and bad bytes are the peer's fault."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ndmp_support import structures, values

from appliance.ndmp import messages as m
from appliance.ndmp.declare import REGISTRY, Kind
from appliance.ndmp.enums import ALL_ONES, AddressType, AuthType, ErrorCode, FileType, FsType, TapeOpenMode
from appliance.ndmp.errors import LocalMisuseError
from appliance.ndmp.types import Address, AuthAttr, AuthData, FileName, FileStat, Pval, TcpAddress
from appliance.ndmp.xdr import Struct, XdrError

MESSAGES = st.sampled_from(sorted(REGISTRY.values(), key=lambda cls: cls.__name__))


def wire(text: str) -> bytes:
    """Bytes written as hexadecimal words."""
    return bytes.fromhex("".join(text.split()))


# Written by hand from RFC 4506 and the XDR blocks of draft-skardal-ndmpv4-04.
EXAMPLES: list[tuple[Struct, str]] = [
    (m.ConnectOpenRequest(4), "00000004"),
    (m.ConnectCloseRequest(), ""),
    (m.NotifyConnectionStatusPost(text_reason=b"full"), "00000000 00000004 00000004 66756c6c"),
    # Opaque data is padded to four bytes with zeros, and its length does not count them.
    (m.TapeWriteRequest(b"abcde"), "00000005 61626364 65000000"),
    (m.TapeOpenRequest(b"d", TapeOpenMode.RDWR), "00000001 64000000 00000001"),
    (m.MoverSetWindowRequest(1 << 32, ALL_ONES), "00000001 00000000 ffffffff ffffffff"),
    (
        m.DataStartBackupRequest(b"tar", (Pval(b"HIST", b"y"),)),
        "00000003 74617200 00000001 00000004 48495354 00000001 79000000",
    ),
    # Version 4's TCP address is an array, each element with its own environment (draft, 2.12).
    (
        m.DataConnectRequest(
            Address(AddressType.TCP, (TcpAddress(0x7F000001, 10001), TcpAddress(1, 2, (Pval(b"a", b""),))))
        ),
        "00000001 00000002 7f000001 00002711 00000000 00000001 00000002 00000001 00000001 61000000 00000000",
    ),
    (m.MoverListenReply(connect_addr=Address()), "00000000 00000000"),
    (m.DataConnectRequest(Address(AddressType.IPC, (), b"xyz")), "00000003 00000003 78797a00"),
    # Fixed opaque data has no length in front (RFC 4506, 4.9).
    (
        m.ConnectClientAuthRequest(AuthData(AuthType.MD5, b"me", b"", bytes(range(16)))),
        "00000002 00000002 6d650000 00010203 04050607 08090a0b 0c0d0e0f",
    ),
    (
        m.ConnectClientAuthRequest(AuthData(AuthType.TEXT, b"me", b"secret")),
        "00000001 00000002 6d650000 00000006 73656372 65740000",
    ),
    (
        m.ConfigGetAuthAttrReply(server_attr=AuthAttr(AuthType.MD5, b"\xab" * 64)),
        "00000000 00000002" + "ab" * 64,
    ),
    (m.ConfigGetAuthAttrReply(server_attr=AuthAttr(AuthType.TEXT)), "00000000 00000001"),
    (
        m.ConfigSetExtListRequest((m.ClassVersion(0x7FF0, 2),)),
        "00000001 00007ff0 00000002",
    ),
    # The two replies in which `unsupported` precedes the error.
    (
        m.TapeGetStateReply(0x3F, ErrorCode.DEV_NOT_OPEN),
        "0000003f 00000006" + "00000000" * 5 + "00000000 00000000" * 2,
    ),
    (
        m.DataGetStateReply(3, read_length=5),
        "00000003" + "00000000" * 13 + "00000005",
    ),
    (
        m.FhAddDirPost((m.fh.FhDir((FileName(b".."),), 2, 2),)),
        "00000001 00000001 00000000 00000002 2e2e0000 00000000 00000002 00000000 00000002",
    ),
    (
        m.FhAddFilePost(
            (
                m.fh.FhFile(
                    (FileName(b"/a", FsType.NT, b"A"),),
                    (FileStat(3, FsType.UNIX, FileType.REG, 4, 5, 6, 7, 8, 0o644, 9, 1),),
                    10,
                    1 << 33,
                ),
            )
        ),
        (
            "00000001 00000001 00000001 00000002 2f610000 00000001 41000000"
            "00000001 00000003 00000000 00000004 00000004 00000005 00000006 00000007 00000008 000001a4"
            "00000000 00000009 00000001 00000000 0000000a 00000002 00000000"
        ),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("body", "text"), EXAMPLES, ids=lambda each: type(each).__name__)
def test_bytes_are_those_of_the_standard(body: Struct, text: str) -> None:
    """A message is coded exactly as RFC 4506 and the draft say, and read back from it."""
    assert body.to_bytes() == wire(text)
    assert type(body).from_bytes(wire(text)) == body


@given(MESSAGES.flatmap(structures))
def test_what_is_written_is_read_back(body: Struct) -> None:
    """Every declared message survives the wire, whatever its fields hold, in whole words."""
    data = body.to_bytes()
    assert len(data) % 4 == 0
    assert type(body).from_bytes(data) == body


@given(MESSAGES.flatmap(structures), st.data())
def test_a_cut_message_is_the_peers_fault(body: Struct, draw: st.DataObject) -> None:
    """A message cut short anywhere raises XdrError, and so does one with a byte too many.

    But an echo without its number is an echo of the class's version 1.
    """
    data = body.to_bytes()
    shortest = len(data) - 4 if getattr(body, "echo_short", None) is not None else None
    if data:
        cut = draw.draw(st.integers(0, len(data) - 1).filter(lambda length: length != shortest))
        with pytest.raises(XdrError):
            type(body).from_bytes(data[:cut])
    with pytest.raises(XdrError):
        type(body).from_bytes(data + b"\0")


@given(MESSAGES, st.binary(max_size=200))
def test_garbage_is_a_message_or_the_peers_fault(cls: type[Struct], data: bytes) -> None:
    """Any bytes at all are either a message or an XdrError, nothing else."""
    with contextlib.suppress(XdrError):
        assert len(cls.from_bytes(data).to_bytes()) == len(data)


@given(MESSAGES.flatmap(structures), st.integers(min_value=0), st.integers(0, 255))
def test_a_garbled_byte_is_a_message_or_the_peers_fault(body: Struct, at: int, byte: int) -> None:
    """One wrong byte in a good message raises XdrError or makes another message, nothing else."""
    data = bytearray(body.to_bytes())
    if data:
        data[at % len(data)] = byte
    with contextlib.suppress(XdrError):
        assert len(type(body).from_bytes(bytes(data)).to_bytes()) == len(data)


@pytest.mark.parametrize(
    ("cls", "text"),
    [
        (m.ConnectOpenRequest, "00010004"),
        (m.DataConnectRequest, "00000001 00000001 7f000001 00010000 00000000"),
        (m.ScsiExecuteCdbReply, "00000000 00000100 00000000 00000000 00000000"),
        (m.DataGetEnvReply, "00000000 ffffffff"),
        (m.TapeWriteRequest, "ffffffff 00000000"),
    ],
    ids=["version", "port", "u_char", "array", "opaque"],
)
def test_a_field_beyond_its_type_is_refused(cls: type[Struct], text: str) -> None:
    """A number that its short type lacks, and a length past the end, raise XdrError."""
    with pytest.raises(XdrError) as error:
        cls.from_bytes(wire(text))
    assert error.value.code is ErrorCode.XDR_DECODE


@pytest.mark.parametrize(
    ("cls", "text"),
    [
        (m.DataListenRequest, "00000009"),
        (m.DataConnectRequest, "00000009"),
        (m.TapeMtioRequest, "ffffffff 00000000"),
        (m.FhAddDirPost, "00000001 00000001 00000003 00000000 00000000 00000000 00000000 00000000"),
    ],
    ids=["field", "union", "operation", "in an array"],
)
def test_a_value_that_an_enumeration_lacks_is_an_illegal_argument(cls: type[Struct], text: str) -> None:
    """The message is whole, one of its arguments is not legal: XdrError with NDMP_ILLEGAL_ARGS_ERR."""
    with pytest.raises(XdrError) as error:
        cls.from_bytes(wire(text))
    assert error.value.code is ErrorCode.ILLEGAL_ARGS


def test_a_huge_array_costs_nothing() -> None:
    """An array announced longer than the message can hold is refused before anything is made of it."""
    with pytest.raises(XdrError, match="1048577 elements"):
        m.FhAddFilePost.from_bytes((0x100001).to_bytes(4, "big") + bytes(1 << 10))


@pytest.mark.parametrize(
    "body", [m.ConnectOpenRequest(1 << 16), m.TapeReadRequest(1 << 32), m.MoverReadRequest(-1, 0)]
)
def test_a_number_of_ours_that_does_not_fit_is_our_bug(body: Struct) -> None:
    """A field that cannot hold its value raises LocalMisuseError with NDMP_XDR_ENCODE_ERR."""
    with pytest.raises(LocalMisuseError) as error:
        body.to_bytes()
    assert error.value.code is ErrorCode.XDR_ENCODE


@pytest.mark.parametrize("cls", [c for (kind, _), c in REGISTRY.items() if kind is Kind.REPLY])
def test_an_error_alone_makes_a_reply(cls: type[Struct]) -> None:
    """Every reply can be made of an error and nothing else, and carries it."""
    made = cls.from_bytes(cls(error=ErrorCode.IO).to_bytes())  # type: ignore[call-arg]
    assert made == cls(error=ErrorCode.IO)  # type: ignore[call-arg]


@given(values(bytes))
def test_strings_are_bytes(name: bytes) -> None:
    """A path with bytes of any kind is passed on as it is."""
    assert m.LogFilePost.from_bytes(m.LogFilePost(name).to_bytes()).name == name


def test_secrets_are_not_shown() -> None:
    """Neither password nor digest appear in a message's text: messages are logged."""
    data = AuthData(AuthType.TEXT, b"me", b"secret", b"proof-of-secret!")
    assert "secret" not in repr(m.ConnectClientAuthRequest(data))
