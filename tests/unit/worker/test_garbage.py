"""A worker looks for garbage seldom, and not among what lives as long as the process."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import gc
from celery import signals
from chunkspool.worker import garbage
before = gc.get_freeze_count()  # Python 3.12 freezes some by itself
garbage.install()
assert gc.get_freeze_count() == before
signals.{signal}.send(sender=None)
assert gc.get_freeze_count() > before + 1000, gc.get_freeze_count()
assert gc.get_threshold() == garbage.THRESHOLDS, gc.get_threshold()
assert gc.isenabled()
"""


def test_a_worker_collects_seldom_before_its_pool_forks() -> None:
    """Children of the prefork pool inherit it, and share the pages of what was there before them."""
    _run_when("worker_init")


def test_a_worker_collects_seldom_once_all_is_loaded() -> None:
    """What was loaded since is left out, too."""
    _run_when("worker_ready")


def _run_when(signal: str) -> None:
    command = [sys.executable, "-c", _PROGRAM.format(signal=signal)]
    subprocess.run(command, check=True)  # noqa: S603 - our own program
