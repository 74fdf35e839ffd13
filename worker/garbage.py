"""Garbage collection that does not stop a thousand streams: seldom, and without what lives as long as the process."""

import gc

from celery import signals

THRESHOLDS = (50_000, 20, 20)
"""New objects before a collection, and collections of each generation before one of the next.

With Python's own (700, 10, 10) a worker with a thousand streams stood still for up to a third of a second, a few times
in ten seconds, and a sixth of its CPU time went into looking for garbage that was not there (docs/bench.md).
"""


def install() -> None:
    """Do it in every worker process: once before the pool forks, once when all is loaded."""
    signals.worker_init.connect(_collect_seldom, weak=False)
    signals.worker_ready.connect(_collect_seldom, weak=False)


def _collect_seldom(**_: object) -> None:
    # What exists by now stays: it need not be looked at again, and a forked child need not copy its pages.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
