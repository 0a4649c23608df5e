"""The state machines of a session, DATA and MOVER services: everything that moves a state is in this file.

Each machine is one table: (state, event) → next state.  What is not in the table is not legal, and is
answered with NDMP_ILLEGAL_STATE_ERR.  Sources: draft-skardal-ndmpv4-04, 2.11.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Any, Generic, TypeVar

from appliance.ndmp.enums import DataState, MoverState
from appliance.ndmp.errors import IllegalStateError

State = TypeVar("State", bound=Enum)
Event = TypeVar("Event", bound=Enum)


class SessionState(IntEnum):
    """A control connection, from the server's side."""

    GREETED = 0
    OPEN = 1
    AUTHORIZED = 2
    CLOSED = 3


class SessionEvent(Enum):
    """What moves a session."""

    OPEN = "CONNECT_OPEN"
    OTHER = "any other message"
    AUTHORIZED = "authentication succeeded"
    CLOSE = "CONNECT_CLOSE or the end of the connection"


SESSION: Mapping[tuple[SessionState, SessionEvent], SessionState] = {
    # CONNECT_OPEN comes first or not at all (3.1.1): a second one, or a late one, is illegal.
    (SessionState.GREETED, SessionEvent.OPEN): SessionState.OPEN,
    (SessionState.GREETED, SessionEvent.OTHER): SessionState.OPEN,
    (SessionState.OPEN, SessionEvent.OTHER): SessionState.OPEN,
    (SessionState.AUTHORIZED, SessionEvent.OTHER): SessionState.AUTHORIZED,
    (SessionState.OPEN, SessionEvent.AUTHORIZED): SessionState.AUTHORIZED,
    # Authenticating again, as somebody else, is allowed.
    (SessionState.AUTHORIZED, SessionEvent.AUTHORIZED): SessionState.AUTHORIZED,
    (SessionState.GREETED, SessionEvent.CLOSE): SessionState.CLOSED,
    (SessionState.OPEN, SessionEvent.CLOSE): SessionState.CLOSED,
    (SessionState.AUTHORIZED, SessionEvent.CLOSE): SessionState.CLOSED,
}


class DataEvent(Enum):
    """What moves a DATA service: requests, and what happens by itself."""

    LISTEN = "DATA_LISTEN"
    CONNECT = "DATA_CONNECT"
    START_BACKUP = "DATA_START_BACKUP"
    START_RECOVER = "DATA_START_RECOVER"
    START_RECOVER_FILEHIST = "DATA_START_RECOVER_FILEHIST"
    GET_ENV = "DATA_GET_ENV"
    ABORT = "DATA_ABORT"
    STOP = "DATA_STOP"
    ACCEPTED = "the mover connected"
    HALTED = "the operation or the connection ended"


DATA: Mapping[tuple[DataState, DataEvent], DataState] = {
    (DataState.IDLE, DataEvent.LISTEN): DataState.LISTEN,
    (DataState.IDLE, DataEvent.CONNECT): DataState.CONNECTED,
    (DataState.LISTEN, DataEvent.ACCEPTED): DataState.CONNECTED,
    (DataState.CONNECTED, DataEvent.START_BACKUP): DataState.ACTIVE,
    (DataState.CONNECTED, DataEvent.START_RECOVER): DataState.ACTIVE,
    (DataState.CONNECTED, DataEvent.START_RECOVER_FILEHIST): DataState.ACTIVE,
    (DataState.ACTIVE, DataEvent.GET_ENV): DataState.ACTIVE,
    (DataState.HALTED, DataEvent.GET_ENV): DataState.HALTED,
    (DataState.LISTEN, DataEvent.ABORT): DataState.HALTED,
    (DataState.CONNECTED, DataEvent.ABORT): DataState.HALTED,
    (DataState.ACTIVE, DataEvent.ABORT): DataState.HALTED,
    (DataState.HALTED, DataEvent.ABORT): DataState.HALTED,
    (DataState.LISTEN, DataEvent.HALTED): DataState.HALTED,
    (DataState.CONNECTED, DataEvent.HALTED): DataState.HALTED,
    (DataState.ACTIVE, DataEvent.HALTED): DataState.HALTED,
    (DataState.HALTED, DataEvent.STOP): DataState.IDLE,
}


class MoverEvent(Enum):
    """What moves a MOVER service: requests, and what happens by itself."""

    SET_RECORD_SIZE = "MOVER_SET_RECORD_SIZE"
    SET_WINDOW = "MOVER_SET_WINDOW"
    LISTEN = "MOVER_LISTEN"
    CONNECT = "MOVER_CONNECT"
    READ = "MOVER_READ"
    CONTINUE = "MOVER_CONTINUE"
    CLOSE = "MOVER_CLOSE"
    ABORT = "MOVER_ABORT"
    STOP = "MOVER_STOP"
    ACCEPTED = "the data server connected"
    PAUSED = "the mover reached the end of window, medium or file"
    HALTED = "the connection ended or the medium failed"


MOVER: Mapping[tuple[MoverState, MoverEvent], MoverState] = {
    (MoverState.IDLE, MoverEvent.SET_RECORD_SIZE): MoverState.IDLE,
    (MoverState.IDLE, MoverEvent.SET_WINDOW): MoverState.IDLE,
    (MoverState.PAUSED, MoverEvent.SET_WINDOW): MoverState.PAUSED,
    # Version 3's order, kept by DMAs that learned it: MOVER_LISTEN, then the window.
    (MoverState.LISTEN, MoverEvent.SET_WINDOW): MoverState.LISTEN,
    (MoverState.IDLE, MoverEvent.LISTEN): MoverState.LISTEN,
    (MoverState.IDLE, MoverEvent.CONNECT): MoverState.ACTIVE,
    (MoverState.LISTEN, MoverEvent.ACCEPTED): MoverState.ACTIVE,
    (MoverState.ACTIVE, MoverEvent.READ): MoverState.ACTIVE,
    (MoverState.ACTIVE, MoverEvent.PAUSED): MoverState.PAUSED,
    (MoverState.PAUSED, MoverEvent.CONTINUE): MoverState.ACTIVE,
    (MoverState.PAUSED, MoverEvent.CLOSE): MoverState.HALTED,
    (MoverState.LISTEN, MoverEvent.ABORT): MoverState.HALTED,
    (MoverState.ACTIVE, MoverEvent.ABORT): MoverState.HALTED,
    (MoverState.PAUSED, MoverEvent.ABORT): MoverState.HALTED,
    (MoverState.HALTED, MoverEvent.ABORT): MoverState.HALTED,
    (MoverState.LISTEN, MoverEvent.HALTED): MoverState.HALTED,
    (MoverState.ACTIVE, MoverEvent.HALTED): MoverState.HALTED,
    (MoverState.PAUSED, MoverEvent.HALTED): MoverState.HALTED,
    (MoverState.HALTED, MoverEvent.STOP): MoverState.IDLE,
}


@dataclass(frozen=True)
class Spec:
    """One machine as it is written here: what tests go through and docs/states.md is made from."""

    name: str
    about: str
    table: Mapping[tuple[Any, Any], Any]
    initial: Enum
    states: tuple[Enum, ...]
    events: tuple[Enum, ...]


MACHINES = (
    Spec(
        "session",
        "A control connection, from the server's side.",
        SESSION,
        SessionState.GREETED,
        tuple(SessionState),
        tuple(SessionEvent),
    ),
    Spec(
        "DATA",
        "The DATA service: entry server, owner and connection server.",
        DATA,
        DataState.IDLE,
        tuple(DataState),
        tuple(DataEvent),
    ),
    Spec(
        "MOVER",
        "The MOVER service: media server, and the feeds of a connection server.",
        MOVER,
        MoverState.IDLE,
        tuple(MoverState),
        tuple(MoverEvent),
    ),
)


class Machine(Generic[State, Event]):
    """One running machine over a table; safe to use from several threads."""

    def __init__(self, name: str, table: Mapping[tuple[State, Event], State], initial: State) -> None:
        self.name = name
        self.changed = threading.Condition(threading.RLock())
        self._table = table
        self._state = initial

    @property
    def state(self) -> State:
        """The present state."""
        return self._state

    def check(self, event: Event) -> None:
        """Raise IllegalStateError unless `event` is legal now."""
        if (self._state, event) not in self._table:
            raise IllegalStateError(self.name, self._state.name, str(event.value))

    def fire(self, event: Event) -> State:
        """Move, and return the new state.  Raises IllegalStateError."""
        with self.changed:
            self.check(event)
            self._state = self._table[(self._state, event)]
            self.changed.notify_all()
            return self._state

    def try_fire(self, event: Event) -> bool:
        """Move if that is legal now: for what races with requests, such as a halt with an abort."""
        with self.changed:
            if (self._state, event) not in self._table:
                return False
            self.fire(event)
            return True
