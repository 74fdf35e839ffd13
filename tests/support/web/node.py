"""Run the AI SDK's client, as installed by npm."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "end_to_end" / "web" / "usechat"


def install_client() -> Path:
    """Install the client's packages and return its script; skip the test without Node.js, but fail in CI."""
    missing = [name for name in ("node", "npm") if shutil.which(name) is None]
    if missing:
        reason = f"{' and '.join(missing)} not on PATH; apt-get install nodejs npm brings them"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    wanted = hashlib.sha256((FOLDER / "package-lock.json").read_bytes()).hexdigest()
    mark = FOLDER / "node_modules" / ".installed"
    if not mark.exists() or mark.read_text() != wanted:
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=300, check=False)  # noqa: S603 - ours
        assert done.returncode == 0, f"npm ci failed:\n{done.stdout}{done.stderr}"
        mark.write_text(wanted)
    return FOLDER / "client.mjs"


def start_client(url: str, scenario: str) -> subprocess.Popen[str]:
    """Start a scenario of the client."""
    command = ["node", str(install_client()), url, scenario]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: S603 - ours
