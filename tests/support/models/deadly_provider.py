"""A provider that can kill its process; a worker finds it by its entry point, like any other provider."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncGenerator
from pathlib import Path

from chunkspool.provider import Delta, ModelRequest, Text
from chunkspool.settings import Settings

POISON = "poison"
_METADATA = "Metadata-Version: 2.1\nName: deadly\nVersion: 1.0\n"


class DeadlyProvider:
    """Yields one word; if the prompt is `POISON`, the process is then killed, as if by the out-of-memory killer."""

    def __init__(self, _settings: Settings) -> None:
        """Ignore the settings."""

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Delta, None]:
        """Yield the word."""
        yield Text("word")
        if request.messages[-1]["content"] == POISON:
            os.kill(os.getpid(), signal.SIGKILL)

    async def aclose(self) -> None:
        """Do nothing."""


def install(folder: Path) -> dict[str, str]:
    """Create a package for it in `folder`; return the environment of a worker that uses it."""
    info = folder / "deadly-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(_METADATA)
    points = f"[chunkspool.providers]\ndeadly = {__name__}:{DeadlyProvider.__name__}\n"
    (info / "entry_points.txt").write_text(points)
    project, tests = Path(__file__).parents[3], Path(__file__).parents[2]
    return {"CHUNKSPOOL_PROVIDER": "deadly", "PYTHONPATH": os.pathsep.join(map(str, (project, tests, folder)))}
