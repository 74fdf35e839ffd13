"""One value per process: a fork never uses its parent's threads and sockets, and concurrent callers get one."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from chunkspool.per_process import PerProcess


class Made:
    """Something that is made, and remembers where."""

    def __init__(self) -> None:
        """Note the process."""
        self.pid = os.getpid()


def in_a_child(check: object) -> int:
    """Run `check` in a forked child; return its exit code."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if check() else 1)  # type: ignore[operator]
        except BaseException:  # noqa: BLE001 - a child that runs on would run the other tests, too
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_it_is_made_once_for_all_threads() -> None:
    """When it is first asked for, and not before."""
    made: list[Made] = []
    start = threading.Barrier(8)

    def make() -> Made:
        made.append(Made())
        return made[-1]

    held = PerProcess(make)

    def ask() -> Made:
        start.wait(10)
        return held.get()

    assert held.peek() is None
    assert made == []
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: ask(), range(8)))
    assert set(map(id, found)) == {id(made[0])}
    assert len(made) == 1


def test_a_child_makes_its_own() -> None:
    """The parent's value is neither used nor closed there, and stays the parent's."""
    held = PerProcess(Made)
    ours = held.get()
    assert in_a_child(lambda: held.peek() is None and held.take() is None) == 0
    assert in_a_child(lambda: held.get() is not ours and held.get().pid == os.getpid() and held.take() is not None) == 0
    assert held.get() is ours


def test_a_child_does_not_wait_for_a_lock_that_nobody_holds_there() -> None:
    """Another thread of the parent may be making the value during the fork."""
    go_on = threading.Event()
    making = threading.Event()
    parent = os.getpid()

    def make() -> Made:
        if os.getpid() == parent:
            making.set()
            go_on.wait(10)
        return Made()

    held = PerProcess(make)
    with ThreadPoolExecutor(1) as thread:
        value = thread.submit(held.get)
        making.wait(10)
        try:
            assert in_a_child(lambda: held.get().pid == os.getpid()) == 0
        finally:
            go_on.set()
        assert value.result(10).pid == parent


def test_what_is_taken_is_made_again() -> None:
    """Who takes it closes it."""
    held = PerProcess(Made)
    first = held.get()
    assert held.take() is first
    assert held.take() is None
    assert held.get() is not first


def test_an_error_leaves_nothing_behind() -> None:
    """It is raised to who asked, and the next one tries again."""
    outcomes = iter([OSError("no"), None])

    def make() -> Made:
        if (error := next(outcomes)) is not None:
            raise error
        return Made()

    held = PerProcess(make)
    with pytest.raises(OSError, match="no"):
        held.get()
    assert held.get().pid == os.getpid()
