"""One address in front of servers that change places, by a process of its own."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from chunkspool.demo.ports import LOOPBACK, free_port, is_taken
from chunkspool.demo.process import Process

PROGRAM = Path(__file__).with_name("forwarder.py")


@dataclass(frozen=True, slots=True)
class Address:
    """A port that leads to a server."""

    port: int
    file: Path
    process: Process

    @classmethod
    def start(cls, folder: Path, target: int) -> Self:
        """Start it; return once it listens. Only call this in the main thread."""
        port, file = free_port(), folder / "leads-to"
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(str(target))
        process = Process.start("address", [sys.executable, str(PROGRAM), str(port), str(file)], folder)
        process.wait_until(lambda: is_taken(port), 30)
        return cls(port, file, process)

    def url(self, db: int = 0) -> str:
        """Return the URL of a database behind it."""
        return f"redis://{LOOPBACK}:{self.port}/{db}"

    def lead_to(self, target: int) -> None:
        """Connect whoever comes from now on to another server."""
        new = self.file.with_suffix(".new")
        new.write_text(str(target))
        new.replace(self.file)

    def stop(self) -> None:
        """End it."""
        self.process.kill()
