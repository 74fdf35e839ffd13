"""Run the AI SDK's clients, as installed by npm."""

from __future__ import annotations

import subprocess
from pathlib import Path

from support.web.npm import NODE, install_packages

FOLDER = Path(__file__).parents[2] / "end_to_end" / "web" / "usechat"
SDKS = (6, 7)
"""The major versions of the AI SDK that are tested."""


def start_client(sdk: int, script: str, *args: str) -> subprocess.Popen[str]:
    """Start a script with the client of the SDK's major version `sdk`."""
    install_packages(FOLDER)
    command = [NODE, FOLDER / script, f"ai{sdk}", *args]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: S603 - ours
