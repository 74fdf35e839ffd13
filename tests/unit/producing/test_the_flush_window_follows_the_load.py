"""A writer that has little to do sends at once; the more it has to do, the longer each generation is gathered."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from chunkspool.producing.flush_window import BUSY, MEMORY, FlushWindow

LONGEST = 0.1
LOADS = st.lists(st.tuples(st.floats(1e-6, 10), st.floats(0, 1)), max_size=30)


def window_under(load: float, seconds: float = 20 * MEMORY) -> tuple[FlushWindow, float]:
    """Return a window after `seconds` in which the writer used this share of a core, and the time."""
    window = FlushWindow(LONGEST)
    window.start(0.0, 0.0)
    steps = 100
    for step in range(1, steps + 1):
        window.note(seconds * step / steps, load * seconds * step / steps)
    return window, seconds


def test_an_idle_writer_sends_at_once() -> None:
    """Also what comes right after another write."""
    window = FlushWindow(LONGEST)
    assert window.due(50.0, flushed=49.999) == 50.0
    slow, now = window_under(0.02)
    assert slow.due(now, flushed=now - 0.001) == now


def test_a_busy_writer_gathers_for_the_whole_interval() -> None:
    """Each generation is then written once in it."""
    window, now = window_under(BUSY)
    assert math.isclose(window.at(now), LONGEST, rel_tol=1e-6)
    assert window.due(now, flushed=now) >= now + LONGEST * 0.999


def test_a_moderate_load_keeps_the_window_short() -> None:
    """Half of the load is an eighth of the window."""
    half, now = window_under(BUSY / 2)
    assert half.at(now) < LONGEST / 7


def test_a_load_that_has_ended_is_forgotten() -> None:
    """Nobody waits because of what the writer did seconds ago."""
    window, now = window_under(1.0)
    later = now + 20 * MEMORY
    assert window.due(later, flushed=later - 0.001) == later


def test_generations_of_a_busy_writer_share_pipelines() -> None:
    """Due times that lie close together are the same, however the window changes a little meanwhile."""
    window, now = window_under(BUSY)
    dues = set()
    for generation in range(100):
        at = now + generation * 1e-4
        window.note(at, BUSY * at * (1 + generation / 1e5))
        dues.add(window.due(at, flushed=at - LONGEST))
    assert len(dues) <= 3


@given(LOADS, st.floats(0, 1), st.floats(0, 2))
def test_no_load_makes_anybody_wait_for_longer(loads: list[tuple[float, float]], passed: float, ago: float) -> None:
    """A generation is due now at the earliest, and an interval and an eighth after its last write at the latest."""
    window, now, worked = FlushWindow(LONGEST), 0.0, 0.0
    window.start(now, worked)
    for seconds, share in loads:
        now, worked = now + seconds, worked + seconds * share
        window.note(now, worked)
    now += passed
    due = window.due(now, flushed=now - ago)
    assert now <= due <= max(now, now - ago + LONGEST) + LONGEST / 8 + 1e-6


@given(st.floats(0, 1))
def test_a_clock_that_stands_still_changes_nothing(worked: float) -> None:
    """Some clocks have a coarse resolution."""
    window = FlushWindow(LONGEST)
    window.start(1.0, 0.0)
    window.note(1.0, worked)
    assert window.at(1.0) == 0.0
