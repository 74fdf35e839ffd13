"""A finding: what was looked at, what was found, and what to change and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, get_args

Level = Literal["ok", "warning", "error"]
LEVELS: Final[tuple[Level, ...]] = get_args(Level)
"""From harmless to grave."""
Subject = Literal[
    "reachable",
    "tls",
    "rights",
    "password",
    "clock",
    "latency",
    "version",
    "cluster",
    "persistence",
    "disk",
    "eviction",
    "memory",
    "connections",
    "replicas",
    "output buffer",
    "info",
    "config",
    "queue",
    "unacknowledged",
    "other apps",
    "bindings",
    "set aside",
    "answers",
    "silent workers",
    "queues",
    "pool",
    "slots",
    "versions",
    "servers",
    "settings",
    "shared settings",
    "token secret",
    "cors",
    "flower",
]
"""What is looked at; docs/how-to/run/doctor.md has a section for each."""
_PAGE: Final = "docs/how-to/run/doctor.md"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check says.

    `group` is what was looked at, such as "redis" or "workers". `advice` says what to change and why; where all is
    well there is none.
    """

    group: str
    level: Level
    subject: Subject
    found: str
    advice: str = ""

    @property
    def link(self) -> str:
        """Where the documentation says more."""
        return f"{_PAGE}#{self.subject.replace(' ', '-')}"


def worst_of(findings: Iterable[Finding]) -> Level:
    """Return the gravest level that occurs."""
    return LEVELS[max((LEVELS.index(one.level) for one in findings), default=0)]
