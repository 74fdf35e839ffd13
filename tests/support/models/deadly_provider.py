"""A provider whose prompts can kill: a worker finds it by its entry point, as it would anybody's."""

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
    """Says one word; then the process is killed, as by the kernel's out-of-memory killer, if the prompt is `POISON`."""

    def __init__(self, _settings: Settings) -> None:
        """Take nothing."""

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Delta, None]:
        """Say it."""
        yield Text("word")
        if request.messages[-1]["content"] == POISON:
            os.kill(os.getpid(), signal.SIGKILL)

    async def aclose(self) -> None:
        """Nothing is held."""


def install(folder: Path) -> dict[str, str]:
    """Make a package of it in `folder`; return the environment of a worker that uses it."""
    info = folder / "deadly-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(_METADATA)
    points = f"[chunkspool.providers]\ndeadly = {__name__}:{DeadlyProvider.__name__}\n"
    (info / "entry_points.txt").write_text(points)
    project, tests = Path(__file__).parents[3], Path(__file__).parents[2]
    return {"CHUNKSPOOL_PROVIDER": "deadly", "PYTHONPATH": os.pathsep.join(map(str, (project, tests, folder)))}
