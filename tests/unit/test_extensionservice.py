"""Extensions: discovery and negotiation, the echo class, Cluster Aware Backup (draft, 2.5.4, appendix B)."""

from __future__ import annotations

import struct

import pytest

from appliance.extensionservice import CAB, ECHO, CabService, Extensions, ExtensionService
from appliance.ndmp import messages as m
from appliance.ndmp.enums import ErrorCode
from appliance.ndmp.errors import NdmpError, RefusalError
from appliance.ndmp.types import Pval
from appliance.ndmp.xdr import Struct, XdrError

ECHO_1, ECHO_2 = m.ClassVersion(m.ECHO_CLASS, 1), m.ClassVersion(m.ECHO_CLASS, 2)
LIST, CHOOSE = m.ConfigGetExtListRequest(), m.ConfigSetExtListRequest


class Talk:
    """A session's extension service; `prepared` is what a cluster-aware DMA told."""

    def __init__(self, *offered: m.ClassList) -> None:
        self.prepared: list[m.CabDataConnPrepareRequest] = []
        extensions = Extensions(offered or (ECHO, CAB))
        services = ExtensionService(extensions), CabService(extensions, self.prepared.append)
        self._handlers = {cls: handler for each in services for cls, handler in each.handlers().items()}

    def ask(self, request: Struct) -> Struct:
        """The reply."""
        return self._handlers[type(request)](request)

    def error(self, request: Struct) -> ErrorCode:
        """The code with which a request is refused."""
        with pytest.raises(NdmpError) as caught:
            self.ask(request)
        return caught.value.code


def test_the_offer_names_each_class_with_its_default_version_first() -> None:
    """GET_EXT_LIST: the first version in a list is the default one (3.2.9)."""
    assert Talk().ask(LIST) == m.ConfigGetExtListReply(
        class_list=(m.ClassList(0x7FF0, (2, 1)), m.ClassList(0x2052, (1,)))
    )


def test_choosing_needs_the_list_first() -> None:
    """SET before GET is PRECONDITION (3.2.10)."""
    assert Talk().error(CHOOSE((ECHO_2,))) is ErrorCode.PRECONDITION


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ((m.ClassVersion(0x2050, 1),), ErrorCode.CLASS_NOT_SUPPORTED),
        ((m.ClassVersion(m.ECHO_CLASS, 3),), ErrorCode.VERSION_NOT_SUPPORTED),
        ((ECHO_1, ECHO_2), ErrorCode.EXT_DUPL_CLASSES),
        ((ECHO_1, m.ClassVersion(0x2050, 1)), ErrorCode.CLASS_NOT_SUPPORTED),
    ],
)
def test_a_wrong_choice_chooses_nothing(wanted: tuple[m.ClassVersion, ...], code: ErrorCode) -> None:
    """Each mistake has its error, and the DMA may try again with another list (3.2.10)."""
    talk = Talk()
    talk.ask(LIST)
    assert talk.error(CHOOSE(wanted)) is code
    assert talk.ask(CHOOSE((ECHO_1,))) == m.ConfigSetExtListReply()


def test_a_choice_stands() -> None:
    """After a good SET, both messages are EXT_DANDN_ILLEGAL."""
    talk = Talk()
    talk.ask(LIST)
    talk.ask(CHOOSE(()))
    assert {talk.error(LIST), talk.error(CHOOSE(()))} == {ErrorCode.EXT_DANDN_ILLEGAL}


def test_using_an_extension_ends_the_negotiation() -> None:
    """A message of an extension chooses the defaults (2.5.4.3)."""
    talk = Talk()
    assert talk.ask(m.TestEchoRequest(b"hello", 7)) == m.TestEchoReply(echo_msg=b"hello", echo_short=7)
    assert talk.error(LIST) is ErrorCode.EXT_DANDN_ILLEGAL


def test_the_chosen_version_of_echo_is_the_one_that_is_spoken() -> None:
    """Version 1 has no number; a message of the other version cannot be decoded as this one."""
    talk = Talk()
    talk.ask(LIST)
    talk.ask(CHOOSE((ECHO_1,)))
    assert talk.ask(m.TestEchoRequest(b"x")) == m.TestEchoReply(echo_msg=b"x")
    assert talk.error(m.TestEchoRequest(b"x", 7)) is ErrorCode.XDR_DECODE


def test_what_was_not_chosen_is_not_supported() -> None:
    """A DMA that chose nothing gets nothing."""
    talk = Talk()
    talk.ask(LIST)
    talk.ask(CHOOSE(()))
    assert talk.error(m.TestEchoRequest(b"x", 7)) is ErrorCode.NOT_SUPPORTED
    assert talk.error(m.CabDataConnPrepareRequest(b"tar")) is ErrorCode.NOT_SUPPORTED
    assert talk.prepared == []


@pytest.mark.parametrize("version_2", [False, True])
def test_the_bytes_of_echo_are_the_appendixs(version_2: bool) -> None:
    """A string, and in version 2 a short after it (appendix B); the reply begins with its error."""
    number = 513 if version_2 else None
    tail = struct.pack(">I", 513) if version_2 else b""
    text = struct.pack(">I", 5) + b"hello\0\0\0"
    asked, told = m.TestEchoRequest(b"hello", number), m.TestEchoReply(ErrorCode.NO_ERR, b"hello", number)
    assert (asked.to_bytes(), told.to_bytes()) == (text + tail, bytes(4) + text + tail)
    assert m.TestEchoRequest.from_bytes(text + tail) == asked
    assert m.TestEchoReply.from_bytes(bytes(4) + text + tail) == told


def test_a_cluster_aware_dma_is_answered() -> None:
    """The prepare message, with or without the word that one DMA sends ahead, reaches the entry server."""
    asked = m.CabDataConnPrepareRequest(b"dump", (Pval(b"FILESYSTEM", b"/a"), Pval(b"HIST", b"y")))
    raw = asked.to_bytes()
    assert m.CabDataConnPrepareRequest.from_bytes(raw) == asked
    assert m.CabDataConnPrepareRequest.from_bytes(b"\0\0\0\1" + raw) == asked
    with pytest.raises(XdrError):
        m.CabDataConnPrepareRequest.from_bytes(b"\0\0\0\2" + raw)
    talk = Talk()
    assert talk.ask(asked) == m.CabDataConnPrepareReply()
    assert talk.prepared == [asked]


def test_a_server_without_files_does_not_know_prepare() -> None:
    """A media server has no handler for it: the session answers NOT_SUPPORTED."""
    assert m.CabDataConnPrepareRequest not in ExtensionService(Extensions((ECHO,))).handlers()
    with pytest.raises(RefusalError):
        Extensions((ECHO,)).choose(())
