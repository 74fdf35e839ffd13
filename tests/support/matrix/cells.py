"""The cells of the matrix: which tests run on what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from support.matrix.servers import SERVERS
from support.processes.nodes import PROJECT

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
UNIT = ("tests/unit",)
# Where the server decides: scripts, its replies and errors, writing and following.
CORE = ("tests/redis/store", "tests/redis/producing", "tests/redis/reading")
REST = tuple(f"tests/redis/{name}" for name in ("doctor", "operations", "roles", "spool", "views", "web", "worker"))
WORKERS = ("tests/end_to_end/workers/test_promise_*.py", "tests/end_to_end/servers/test_acl_roles.py")
BROKER = ("tests/end_to_end/servers/test_promise_9_rabbitmq.py",)


@dataclass(frozen=True, slots=True)
class Cell:
    """One run. Without a server it is the usual two, by turns; without a Python, the one that runs the matrix."""

    name: str
    patterns: tuple[str, ...]
    server: str = ""
    python: str = ""
    options: tuple[str, ...] = ()

    @property
    def tests(self) -> list[str]:
        """The tests' files and folders, from the project's own folder."""
        return [str(one.relative_to(PROJECT)) for pattern in self.patterns for one in sorted(PROJECT.glob(pattern))]


def list_cells() -> Iterator[Cell]:
    """Yield them in the order in which they run: what tells most comes first."""
    yield from (Cell(f"{server} core", CORE, server=server) for server in SERVERS)
    yield from (Cell(f"python-{version} unit", UNIT, python=version) for version in PYTHONS)
    yield Cell("rabbitmq", BROKER)
    yield from (Cell(f"{server} rest", REST, server=server) for server in SERVERS)
    yield from (Cell(f"python-{version} redis", CORE + REST, python=version) for version in PYTHONS)
    yield from (Cell(f"{server} workers", WORKERS, server=server) for server in SERVERS)
    yield from (Cell(f"python-{version} workers", WORKERS, python=version) for version in PYTHONS)
    yield Cell("roles", CORE + REST, options=("--roles", "--every-server"))
