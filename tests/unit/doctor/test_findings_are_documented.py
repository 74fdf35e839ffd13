"""docs/how-to/run/doctor.md has a section for each finding, to which it leads, and none that does not exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from chunkspool.cli.doctor import finding_lines
from chunkspool.doctor.finding import Finding, Level, Subject, worst_of

PROJECT = Path(__file__).parents[3]


def test_every_subject_has_a_section() -> None:
    """With its name as the heading."""
    sections = re.findall(r"^### (.+)$", (PROJECT / "docs" / "how-to" / "run" / "doctor.md").read_text(), re.MULTILINE)
    assert sections == list(get_args(Subject))


def test_a_finding_leads_to_its_section() -> None:
    """By the anchor that a heading of these words has."""
    assert Finding("redis", "ok", "output buffer", "").link == "docs/how-to/run/doctor.md#output-buffer"


def test_a_finding_for_people() -> None:
    """One line, and one more with the advice where something is to be done."""
    assert finding_lines(Finding("redis", "ok", "tls", "verified")) == ["  ok       tls: verified"]
    first, second = finding_lines(
        Finding("redis", "warning", "memory", "no maxmemory", "set it: the system kills Redis")
    )
    assert first == "  WARNING  memory: no maxmemory"
    assert second == "           set it: the system kills Redis (docs/how-to/run/doctor.md#memory)"


@pytest.mark.parametrize(
    ("levels", "worst"), [((), "ok"), (("ok", "warning"), "warning"), (("error", "ok", "warning"), "error")]
)
def test_the_gravest_counts(levels: tuple[Level, ...], worst: str) -> None:
    """Whatever comes after it."""
    assert worst_of(Finding("redis", level, "memory", "") for level in levels) == worst
