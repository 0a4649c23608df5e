"""The state machines: each state with each event, and what the draft's tables say (2.11)."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import pytest

from appliance.ndmp.enums import DataState, ErrorCode, MoverState
from appliance.ndmp.errors import IllegalStateError
from appliance.ndmp.states import DATA, MACHINES, MOVER, DataEvent, Machine, MoverEvent

CASES = [
    (spec.name, spec.table, state, event)
    for spec in MACHINES
    for state, event in itertools.product(spec.states, spec.events)
]


@pytest.mark.parametrize(("name", "table", "state", "event"), CASES)
def test_every_state_with_every_event(name: str, table: Any, state: Any, event: Any) -> None:
    """An event either moves the machine as its table says, or is refused with all names and moves nothing."""
    machine = Machine(name, table, state)
    if (state, event) in table:
        machine.check(event)
        assert machine.fire(event) is table[(state, event)] is machine.state
        return
    with pytest.raises(IllegalStateError) as error:
        machine.fire(event)
    assert error.value.code is ErrorCode.ILLEGAL_STATE
    assert str(error.value) == f"{name}: {event.value} is not legal in state {state.name}"
    assert not machine.try_fire(event)
    assert machine.state is state


@pytest.mark.parametrize("spec", MACHINES, ids=lambda spec: spec.name)
def test_every_state_is_reached_and_every_event_has_a_use(spec: Any) -> None:
    """No state that nothing leads to, no event that is legal nowhere."""
    reached = {spec.initial}
    for _ in spec.states:
        reached |= {after for (before, _), after in spec.table.items() if before in reached}
    assert reached == set(spec.states)
    assert {event for _, event in spec.table} == set(spec.events)


def legal(table: Any, event: Any) -> set[str]:
    """Names of the states in which an event is legal."""
    return {state.name for state, known in table if known is event}


@pytest.mark.parametrize(
    ("event", "states"),
    [
        (DataEvent.LISTEN, {"IDLE"}),
        (DataEvent.CONNECT, {"IDLE"}),
        (DataEvent.START_BACKUP, {"CONNECTED"}),
        (DataEvent.START_RECOVER, {"CONNECTED"}),
        (DataEvent.START_RECOVER_FILEHIST, {"CONNECTED"}),
        (DataEvent.GET_ENV, {"ACTIVE", "HALTED"}),
        (DataEvent.ABORT, {"LISTEN", "CONNECTED", "ACTIVE", "HALTED"}),
        (DataEvent.STOP, {"HALTED"}),
    ],
)
def test_data_requests_are_legal_where_the_draft_says(event: DataEvent, states: set[str]) -> None:
    """Each DATA request is legal in the draft's states (3.5.2) and no others."""
    assert legal(DATA, event) == states


@pytest.mark.parametrize(
    ("event", "states"),
    [
        (MoverEvent.SET_RECORD_SIZE, {"IDLE"}),
        # LISTEN beyond the draft: version 3's order.
        (MoverEvent.SET_WINDOW, {"IDLE", "PAUSED", "LISTEN"}),
        (MoverEvent.LISTEN, {"IDLE"}),
        (MoverEvent.CONNECT, {"IDLE"}),
        (MoverEvent.READ, {"ACTIVE"}),
        (MoverEvent.CONTINUE, {"PAUSED"}),
        (MoverEvent.CLOSE, {"PAUSED"}),
        (MoverEvent.ABORT, {"LISTEN", "ACTIVE", "PAUSED", "HALTED"}),
        (MoverEvent.STOP, {"HALTED"}),
    ],
)
def test_mover_requests_are_legal_where_the_draft_says(event: MoverEvent, states: set[str]) -> None:
    """Each MOVER request is legal in the draft's states (3.6.2) and no others."""
    assert legal(MOVER, event) == states


@pytest.mark.parametrize("table", [DATA, MOVER], ids=["DATA", "MOVER"])
def test_a_service_starts_over_only_by_stop(table: Any) -> None:
    """Nothing but STOP leads back to IDLE: a DMA always sees how an operation ended."""
    back = {event.name for (state, event), after in table.items() if after.name == "IDLE" != state.name}
    assert back == {"STOP"}


def test_a_change_wakes_who_waits_for_it() -> None:
    """A thread that waits on the machine goes on when the state comes."""
    machine: Machine[MoverState, MoverEvent] = Machine("MOVER", MOVER, MoverState.IDLE)
    seen = []

    def wait() -> None:
        with machine.changed:
            machine.changed.wait_for(lambda: machine.state is MoverState.LISTEN, 10)
            seen.append(machine.state)

    waiter = threading.Thread(target=wait)
    waiter.start()
    machine.fire(MoverEvent.LISTEN)
    waiter.join(10)
    assert seen == [MoverState.LISTEN]


def test_of_two_halts_one_counts() -> None:
    """An abort and an end that race move the machine once: one of them is told that it came too late."""
    machine: Machine[DataState, DataEvent] = Machine("DATA", DATA, DataState.ACTIVE)
    assert [machine.try_fire(DataEvent.HALTED), machine.try_fire(DataEvent.HALTED)] == [True, False]
