"""The graph of a lab's states, as a table, and the walk along one edge of it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from harness_support import FakeProvider, new_lab

from harness import states
from harness.errors import CheckError, HarnessError, InfrastructureError, UsageError
from harness.states import BOOT, BOOTED, CONFIGURE, OFF, READY, SEED, SEEDED, RememberedError, Step
from harness.walk import walking

BOTH = (READY, SEEDED)


@pytest.mark.parametrize(
    ("present", "wanted", "kept", "fresh", "steps"),
    [
        (OFF, READY, (), False, (BOOT, CONFIGURE)),
        (OFF, SEEDED, (), False, (BOOT, CONFIGURE, SEED)),
        (OFF, BOOTED, (), False, (BOOT,)),
        (OFF, BOOTED, BOTH, False, (BOOT,)),
        (OFF, READY, BOTH, False, (states.revert(READY),)),
        (OFF, SEEDED, BOTH, False, (states.revert(SEEDED),)),
        (OFF, SEEDED, (READY,), False, (states.revert(READY), SEED)),
        (BOOTED, READY, (), False, (CONFIGURE,)),
        (BOOTED, READY, (READY,), False, (states.revert(READY),)),
        (READY, READY, BOTH, False, ()),
        (READY, SEEDED, (READY,), False, (SEED,)),
        (READY, SEEDED, BOTH, False, (states.revert(SEEDED),)),
        (SEEDED, READY, BOTH, False, ()),
        (READY, READY, BOTH, True, (states.down(READY), BOOT, CONFIGURE)),
        (OFF, SEEDED, BOTH, True, (BOOT, CONFIGURE, SEED)),
        (SEEDED, OFF, BOTH, False, (states.down(SEEDED),)),
        (OFF, OFF, BOTH, False, ()),
    ],
)
def test_the_way(
    present: str, wanted: str, kept: tuple[str, ...], fresh: bool, steps: tuple[Step, ...]
) -> None:
    """From each state to each: by the nearest checkpoint, never back, and from off when that is asked for."""
    assert states.way(present, wanted, kept, fresh=fresh) == steps


def test_every_edge_has_a_limit_and_leads_on() -> None:
    """The edges join the states in order, and none may last for ever."""
    assert [(edge.source, edge.target) for edge in states.EDGES] == list(
        zip(states.STATES, states.STATES[1:], strict=False)
    )
    every = [*states.EDGES, states.revert(READY), states.down(READY)]
    assert all(0 < step.seconds < 4000 for step in every)


def test_what_is_no_state_is_refused() -> None:
    """A name that is none is told with those there are."""
    with pytest.raises(UsageError, match="off, booted, ready, seeded"):
        states.way(OFF, "redy")


@pytest.fixture
def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeProvider:
    """A lab of folders."""
    return new_lab(FakeProvider, tmp_path, monkeypatch)


def test_a_first_error_is_told_again_and_nothing_is_tried(provider: FakeProvider) -> None:
    """The second who asks hears the first's error, with its exit code; who asks for another edge does not."""
    tried: list[str] = []

    def walk(step: Step, error: HarnessError | None = None) -> None:
        with walking(provider, step):
            tried.append(step.does)
            if error is not None:
                raise error

    with pytest.raises(CheckError, match="no disk"):
        walk(BOOT, CheckError("no disk", hint="plug it in"))
    with pytest.raises(RememberedError, match=r"boot \(off → booted\) failed in this run: no disk") as caught:
        walk(BOOT, CheckError("another"))
    assert (caught.value.exit_code, caught.value.hint) == (CheckError.exit_code, "plug it in")
    walk(CONFIGURE)
    provider.troubles.forget()
    walk(BOOT)
    assert tried == ["boot", "configure", "boot"]


def test_a_mistake_of_ours_is_no_memory(provider: FakeProvider) -> None:
    """What is no expected error stays what it is, and is not remembered as one."""
    with pytest.raises(ZeroDivisionError), walking(provider, BOOT):
        _ = 1 / 0
    with walking(provider, BOOT):
        pass


def test_a_step_whose_time_is_over_is_given_up(provider: FakeProvider) -> None:
    """The provider is told, what it waited for ends, and the error says that it was the time."""
    ended = threading.Event()
    provider.give_up = ended.set  # type: ignore[method-assign]

    def walk() -> None:
        with walking(provider, Step("boot", OFF, BOOTED, 0.0)):
            assert ended.wait(60)
            raise OSError("gone")

    with pytest.raises(InfrastructureError, match=r"boot \(off → booted\): not done after 0 s: gone"):
        walk()
    with pytest.raises(RememberedError, match="not done after 0 s"):
        walk()


def test_late_but_well_done_is_done(provider: FakeProvider) -> None:
    """Work that the provider could not end, and that ends well, is not thrown away."""
    ended = threading.Event()
    provider.give_up = ended.set  # type: ignore[method-assign]
    with walking(provider, Step("boot", OFF, BOOTED, 0.0)):
        assert ended.wait(60)
