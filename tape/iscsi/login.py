"""The login phase of a connection, as a state machine without I/O (RFC 7143, 6 and 7.3 and 13).

    SECURITY (0) -> OPERATIONAL (1) -> FULL FEATURE (3)

Each request is answered by one response.  `LoginPhase.receive` returns it; `done` says that the full
feature phase begins, `failed` that the connection ends once the response is sent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tape.iscsi.errors import IscsiProtocolError
from tape.iscsi.pdu import RESPONSES, Pdu
from tape.iscsi.text import TEXT_BYTES_MAX, decode_text, encode_text

__all__ = ["LoginPhase", "LoginStatus", "Parameters"]

RECEIVE_SEGMENT = 1 << 20
"""MaxRecvDataSegmentLength we declare: four records of 256 KiB, or a record of 1 MiB, in one PDU."""

BURST = 1 << 20
"""MaxBurstLength and FirstBurstLength we agree to at most: a usual record needs no second R2T."""

REQUESTS_MAX = 64
"""Login requests of one connection; initiators need three or four."""

SECURITY, OPERATIONAL, FULL_FEATURE = 0, 1, 3
LOGIN_RESPONSE = RESPONSES[0x23]


class LoginStatus:
    """Status class and detail (RFC 7143, 11.13.5)."""

    SUCCESS = 0x0000
    INITIATOR_ERROR = 0x0200
    AUTHENTICATION_FAILED = 0x0201
    NOT_FOUND = 0x0203
    UNSUPPORTED_VERSION = 0x0205
    TOO_MANY_CONNECTIONS = 0x0206
    MISSING_PARAMETER = 0x0207
    NO_SUCH_SESSION = 0x020A
    OUT_OF_RESOURCES = 0x0302


@dataclass(slots=True)
class Parameters:
    """What was agreed on; before, the defaults of RFC 7143, 13."""

    initiator: str = ""
    target: str = ""
    discovery: bool = False
    send_segment: int = 8192  # the initiator's MaxRecvDataSegmentLength
    initial_r2t: bool = True
    immediate_data: bool = True
    max_burst: int = 262_144
    first_burst: int = 65_536


class _Refusal(Exception):  # noqa: N818 - a login that is answered with a status
    def __init__(self, status: int) -> None:
        super().__init__(f"{status:04x}")
        self.status = status


def _number(value: str) -> int:
    try:
        number = int(value, 0)
    except ValueError:
        raise _Refusal(LoginStatus.INITIATOR_ERROR) from None
    if not 0 <= number <= 0xFFFFFF:
        raise _Refusal(LoginStatus.INITIATOR_ERROR)
    return number


def _yes(value: str) -> bool:
    if value not in ("Yes", "No"):
        raise _Refusal(LoginStatus.INITIATOR_ERROR)
    return value == "Yes"


def _only(wanted: str) -> Callable[[Parameters, str], str | None]:
    """A list from which we take one value, or nothing."""
    return lambda _parameters, value: wanted if wanted in value.split(",") else "Reject"


def _at_most(ours: int) -> Callable[[Parameters, str], str | None]:
    return lambda _parameters, value: str(min(ours, _number(value)))


def _at_least(ours: int) -> Callable[[Parameters, str], str | None]:
    return lambda _parameters, value: str(max(ours, _number(value)))


def _always(answer: str) -> Callable[[Parameters, str], str | None]:
    return lambda _parameters, _value: answer


def _segment(parameters: Parameters, value: str) -> str | None:
    """Declared, not negotiated: what the initiator receives.  512 is the least (13.12)."""
    parameters.send_segment = _number(value)
    if parameters.send_segment < 512:
        raise _Refusal(LoginStatus.INITIATOR_ERROR)
    return None


def _initial_r2t(parameters: Parameters, value: str) -> str | None:
    parameters.initial_r2t = _yes(value)  # OR with our No
    return value


def _immediate_data(parameters: Parameters, value: str) -> str | None:
    parameters.immediate_data = _yes(value)  # AND with our Yes
    return value


def _max_burst(parameters: Parameters, value: str) -> str | None:
    parameters.max_burst = min(BURST, _number(value))
    if parameters.max_burst < 512:
        raise _Refusal(LoginStatus.INITIATOR_ERROR)
    return str(parameters.max_burst)


def _first_burst(parameters: Parameters, value: str) -> str | None:
    parameters.first_burst = min(BURST, _number(value))
    return str(parameters.first_burst)


def _noted(_parameters: Parameters, _value: str) -> str | None:
    return None


# Key -> what we do with the initiator's value; returns our answer, None where none is due (13).
_KEYS: dict[str, Callable[[Parameters, str], str | None]] = {
    "HeaderDigest": _only("None"),
    "DataDigest": _only("None"),
    "MaxConnections": _at_most(1),
    "InitialR2T": _initial_r2t,
    "ImmediateData": _immediate_data,
    "MaxRecvDataSegmentLength": _segment,
    "MaxBurstLength": _max_burst,
    "FirstBurstLength": _first_burst,
    # Sessions are not kept: whoever comes back makes a new one, and may at once.
    "DefaultTime2Wait": _at_least(0),
    "DefaultTime2Retain": _at_most(0),
    "MaxOutstandingR2T": _at_most(1),
    "DataPDUInOrder": _always("Yes"),
    "DataSequenceInOrder": _always("Yes"),
    "ErrorRecoveryLevel": _at_most(0),
    "IFMarker": _always("No"),
    "OFMarker": _always("No"),
    "TaskReporting": _only("RFC3720"),
    "iSCSIProtocolLevel": _at_most(1),
    "InitiatorAlias": _noted,
}


@dataclass
class LoginPhase:
    """One connection's login.

    Args:
        target: our name.

    Attributes:
        parameters: what was agreed on so far.
        isid: the initiator's part of the session's name.
        done, failed: how it ended; both False while it goes on.
        next_command: CmdSN of the first command to come.
        next_status: StatSN of our next response.

    """

    target: str
    parameters: Parameters = field(default_factory=Parameters)
    isid: int = 0
    done: bool = False
    failed: bool = False
    next_command: int = 0
    next_status: int = 0
    _stage: int | None = None
    _text: bytearray = field(default_factory=bytearray)
    _requests: int = 0
    _declared: bool = False

    def receive(self, pdu: Pdu, session_id: int) -> list[bytes | memoryview]:
        """Answer one request; `session_id` is the TSIH that the session will get, not 0.

        Raises:
            IscsiProtocolError: something else than a login request, or far too much of it.

        """
        if pdu.layout.name != "Login Request":
            raise IscsiProtocolError(f"{pdu.layout.name} before the login was complete")
        self._requests += 1
        if self._requests > REQUESTS_MAX or len(self._text) + len(pdu.data) > TEXT_BYTES_MAX:
            raise IscsiProtocolError("a login without end")
        if self._requests == 1:
            self.isid, self.next_command = pdu["isid"], pdu["cmdsn"]
            self.next_status = pdu["expstatsn"]
        try:
            return self._answer(pdu, session_id)
        except _Refusal as refusal:
            self.failed = True
            return self._response(pdu, b"", status=refusal.status)

    def refuse(self, pdu: Pdu, status: int) -> list[bytes | memoryview]:
        """Answer a request with a failure that is not about what it says."""
        self.failed = True
        return self._response(pdu, b"", status=status)

    def _answer(self, pdu: Pdu, session_id: int) -> list[bytes | memoryview]:
        if pdu["version_min"] > 0:
            raise _Refusal(LoginStatus.UNSUPPORTED_VERSION)
        if pdu["tsih"]:
            # One connection a session, and no session outlives its connection.
            raise _Refusal(LoginStatus.NO_SUCH_SESSION)
        self._check_stages(pdu)
        self._text += pdu.data
        if pdu["continue"]:
            return self._response(pdu, b"", csg=pdu["csg"])
        pairs = decode_text(bytes(self._text))
        self._text.clear()
        answers = self._negotiate(dict(pairs), pdu["csg"])
        if pdu["transit"]:
            self._stage = pdu["nsg"]
            self.done = pdu["nsg"] == FULL_FEATURE
        return self._response(
            pdu,
            encode_text(answers),
            csg=pdu["csg"],
            nsg=pdu["nsg"] if pdu["transit"] else 0,
            transit=pdu["transit"],
            tsih=session_id if self.done else 0,
        )

    def _check_stages(self, pdu: Pdu) -> None:
        """Stages go forwards only, and a request with C set does not ask for the next (11.12)."""
        csg, nsg = pdu["csg"], pdu["nsg"]
        is_known = csg in (SECURITY, OPERATIONAL) and (self._stage is None or csg == self._stage)
        goes_on = not pdu["transit"] or (csg < nsg <= FULL_FEATURE and nsg != 2)
        if not is_known or not goes_on or (pdu["continue"] and pdu["transit"]):
            raise _Refusal(LoginStatus.INITIATOR_ERROR)
        self._stage = csg

    def _negotiate(self, pairs: dict[str, str], stage: int) -> list[tuple[str, str]]:
        answers: list[tuple[str, str]] = []
        if not self.parameters.initiator:
            answers += self._identify(pairs)
        for name in ("InitiatorName", "TargetName", "SessionType"):
            pairs.pop(name, None)
        if "AuthMethod" in pairs:
            if "None" not in pairs.pop("AuthMethod").split(","):
                raise _Refusal(LoginStatus.AUTHENTICATION_FAILED)
            answers.append(("AuthMethod", "None"))
        for key, value in pairs.items():
            handler = _KEYS.get(key)
            answer = "NotUnderstood" if handler is None else handler(self.parameters, value)
            if answer is not None:
                answers.append((key, answer))
        if stage == OPERATIONAL and not self._declared:
            self._declared = True
            answers.append(("MaxRecvDataSegmentLength", str(RECEIVE_SEGMENT)))
        return answers

    def _identify(self, pairs: dict[str, str]) -> list[tuple[str, str]]:
        """Read who wants to talk to whom, which the first request must say (RFC 7143, 6.3)."""
        if not pairs.get("InitiatorName"):
            raise _Refusal(LoginStatus.MISSING_PARAMETER)
        self.parameters.initiator = pairs["InitiatorName"]
        session_type = pairs.get("SessionType", "Normal")
        if session_type == "Discovery":
            self.parameters.discovery = True
            return []
        if session_type != "Normal":
            raise _Refusal(LoginStatus.INITIATOR_ERROR)
        if not pairs.get("TargetName"):
            raise _Refusal(LoginStatus.MISSING_PARAMETER)
        if pairs["TargetName"] != self.target:
            raise _Refusal(LoginStatus.NOT_FOUND)
        self.parameters.target = self.target
        return [("TargetPortalGroupTag", "1")]

    def _response(self, pdu: Pdu, text: bytes, **values: int) -> list[bytes | memoryview]:
        statsn = self.next_status
        self.next_status = statsn + 1 & 0xFFFFFFFF
        return LOGIN_RESPONSE.build(
            text,
            itt=pdu["itt"],
            isid=pdu["isid"],
            statsn=statsn,
            expcmdsn=pdu["cmdsn"],
            maxcmdsn=pdu["cmdsn"],
            **values,
        )
