"""The cells of the matrix: which tests run on what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from support.matrix.servers import SERVERS
from support.processes.nodes import PROJECT

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
STORE = ("tests/redis",)
WORKERS = ("tests/end_to_end/workers/test_promise_*.py", "tests/end_to_end/servers/test_acl_roles.py")
BROKER = ("tests/end_to_end/servers/test_promise_9_rabbitmq.py",)


@dataclass(frozen=True, slots=True)
class Cell:
    """One run. Without a server it is the usual two, by turns; without a Python, the one that runs the matrix."""

    name: str
    patterns: tuple[str, ...]
    server: str = ""
    python: str = ""

    @property
    def tests(self) -> list[str]:
        """The tests' files and folders, from the project's own folder."""
        return [str(one.relative_to(PROJECT)) for pattern in self.patterns for one in sorted(PROJECT.glob(pattern))]


def list_cells() -> Iterator[Cell]:
    """Yield them in the order in which they run: what is quick first."""
    for server in SERVERS:
        yield Cell(server, STORE, server=server)
    yield Cell("rabbitmq", BROKER)
    for version in PYTHONS:
        yield Cell(f"python-{version}", ("tests/unit", *STORE), python=version)
    for server in SERVERS:
        yield Cell(f"{server} workers", WORKERS, server=server)
    for version in PYTHONS:
        yield Cell(f"python-{version} workers", WORKERS, python=version)
