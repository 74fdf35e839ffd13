"""Run an operation up to one of its steps, to do something there or to end it as a kill does; sweep at once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from redis import Redis

from chunkspool import Spool
from chunkspool.effects import Effect, Operation, SendAll, drive
from chunkspool.store.client import Store
from chunkspool.store.commands import ScriptCall, Transaction


class Killed(BaseException):
    """Stands for the end of a process."""


def run_until(store: Store, operation: Operation[Any], at: int, act: Callable[[], object] | None = None) -> bool:
    """Run an operation, and before its step `at` do something else, or end it there; tell whether it came so far."""
    number, came = 0, False

    def perform(effect: Effect) -> object:
        nonlocal number, came
        if number == at:
            came = True
            if act is None:
                raise Killed
            act()
        number += 1
        if isinstance(effect, SendAll):
            return store.send_all(effect.transactions, at_once=False)
        assert isinstance(effect, ScriptCall | Transaction)
        return store.send(effect)

    with suppress(Killed):
        drive(operation, perform)
    return came


def sweep(spool: Spool, client: Redis) -> None:
    """Sweep now, whoever did so a moment ago."""
    client.delete("cs:{index}:sweep_lock:chunkspool")
    spool.sweep(queue_is_empty=False)
