"""What is told of a generation that a script has ended by itself, without a worker."""

from __future__ import annotations

from chunkspool.effects import Tell
from chunkspool.observer import GenerationEnded
from chunkspool.store.scripts import Ages


def tell_stopped(ages: Ages) -> Tell:
    """Tell that the request to stop itself has ended it, as nobody ran it: in no time, unless it was asked before."""
    return Tell(GenerationEnded("stopped", seconds=ages.lived, stop_seconds=ages.stopping or 0.0))


def tell_found_stopped(ages: Ages) -> Tell:
    """Tell that it was stopped by whoever came across it, some time after the request to stop."""
    return Tell(GenerationEnded("stopped", seconds=ages.lived, stop_seconds=ages.stopping))


def tell_failed(code: str, ages: Ages) -> Tell:
    """Tell that it failed."""
    return Tell(GenerationEnded("failed", code, ages.lived))
