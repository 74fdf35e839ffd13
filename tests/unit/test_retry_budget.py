"""The retry budget: pauses that grow to a limit, and an end that counts from the first failure after a success."""

from __future__ import annotations

import math

import pytest

from chunkspool.errors import StoreUnavailable
from chunkspool.retry import FIRST_PAUSE, LONGEST_PAUSE, RetryBudget


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        """Begin at some time."""
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def test_pauses_double_up_to_a_limit() -> None:
    """Retrying costs little soon, and next to nothing later."""
    budget = RetryBudget()
    pauses = [budget.pause() for _ in range(10)]
    assert pauses[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert set(pauses[6:]) == {LONGEST_PAUSE}
    budget.renew()
    assert budget.pause() == FIRST_PAUSE


def test_the_time_counts_from_the_first_failure() -> None:
    """However long it went well before."""
    clock = Clock()
    budget = RetryBudget(30, clock=clock)
    clock.now += 3600
    assert not budget.fail()
    clock.now += 29.9
    assert not budget.fail()
    clock.now += 0.1
    assert budget.fail()


def test_a_success_gives_the_whole_time_again() -> None:
    """Two short outages are not one long one."""
    clock = Clock()
    budget = RetryBudget(30, clock=clock)
    for _ in range(10):
        budget.fail()
        clock.now += 20
        budget.renew()
    assert not budget.fail()


def test_the_error_is_raised_when_the_time_is_over() -> None:
    """The last one, which says what is wrong now."""
    clock = Clock()
    budget = RetryBudget(1, clock=clock)
    assert budget.pause_after(StoreUnavailable("first")) == FIRST_PAUSE
    clock.now += 2
    with pytest.raises(StoreUnavailable, match="second"):
        budget.pause_after(StoreUnavailable("second"))


def test_without_a_limit_it_never_ends() -> None:
    """For threads that serve others."""
    clock = Clock()
    budget = RetryBudget(clock=clock)
    budget.fail()
    clock.now = math.nextafter(math.inf, 0)
    assert not budget.fail()
