"""Run the AI SDK's clients, as installed by npm."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from support.web.npm import NODE, install_packages

FOLDER = Path(__file__).parents[2] / "end_to_end" / "web" / "usechat"
SDKS = (6, 7)
"""The major versions of the AI SDK that are tested."""


def start_client(sdk: int, script: str, *args: str) -> subprocess.Popen[str]:
    """Start a script with the client of the SDK's major version `sdk`."""
    install_packages(FOLDER)
    command = [NODE, FOLDER / script, f"ai{sdk}", *args]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: S603 - ours


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario of the SDK's client, in client.mjs, that is under way."""

    process: subprocess.Popen[str]

    @classmethod
    def start(cls, sdk: int, url: str, scenario: str, **options: object) -> Self:
        """Start it against the routes at `url`; client.mjs says which `options` there are."""
        return cls(start_client(sdk, "client.mjs", url, scenario, json.dumps(options)))

    def wait_for(self, line: str) -> None:
        """Wait until the scenario asks for something."""
        assert self.process.stderr is not None
        assert self.process.stderr.readline().strip() == line

    def go_on(self) -> None:
        """Tell the scenario that it was done."""
        assert self.process.stdin is not None
        self.process.stdin.write("done\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        """End it, if it is still under way."""
        self.process.kill()
        self.process.communicate()

    def finish(self) -> Any:
        """Return the client's final state."""
        out, err = self.process.communicate(timeout=200)
        assert self.process.returncode == 0, err
        return json.loads(out)
