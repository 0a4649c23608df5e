"""The mover window, without a mover."""

from __future__ import annotations

import pytest

from appliance.mediaserver.window import Window
from appliance.ndmp.enums import ALL_ONES, ErrorCode, MoverMode
from appliance.ndmp.errors import RefusalError


@pytest.mark.parametrize("window", [Window(1, ALL_ONES), Window(ALL_ONES, 1)])
def test_an_overflowing_window_is_refused(window: Window) -> None:
    """Offset and length together stay within 64 bits (draft, 3.6.2.2)."""
    with pytest.raises(RefusalError) as refusal:
        window.check()
    assert refusal.value.code is ErrorCode.ILLEGAL_ARGS


@pytest.mark.parametrize("offset", [0, 1, 10240])
def test_all_ones_is_to_the_end(offset: int) -> None:
    """A length of all ones becomes the largest one that is legal behind the offset."""
    window = Window(offset, ALL_ONES).to_the_end()
    window.check()
    assert window.is_endless
    assert window.has_room(1 << 60, 10240)


@pytest.mark.parametrize(
    ("mode", "window", "fits"),
    [
        (MoverMode.READ, Window(0, 20), True),
        (MoverMode.READ, Window(3, 20), True),
        (MoverMode.READ, Window(0, 21), False),
        (MoverMode.READ, Window(5, ALL_ONES - 5), True),
        (MoverMode.WRITE, Window(0, 21), True),
        (MoverMode.WRITE, Window(10, 3), True),
        (MoverMode.WRITE, Window(11, 10), False),
    ],
)
def test_alignment_depends_on_the_direction(mode: MoverMode, window: Window, fits: bool) -> None:
    """A backup's length and a restore's offset are whole records (of 10 here)."""
    assert window.fits(mode, 10) is fits


def test_the_ends_of_a_window() -> None:
    """The first byte is in, the one behind the last is not; so are records."""
    window = Window(10, 20)
    assert [window.holds(position) for position in (9, 10, 29, 30)] == [False, True, True, False]
    assert [window.has_room(used, 10) for used in (0, 10, 11, 20)] == [True, True, False, False]
