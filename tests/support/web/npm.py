"""Install npm's packages of a test's folder, as its lock file says."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
from pathlib import Path

from support.missing import skip_missing


def install_packages(folder: Path) -> Path:
    """Install the packages of `folder` and return its node_modules; skip the test without Node.js, but fail in CI."""
    missing = [name for name in ("node", "npm") if shutil.which(name) is None]
    if missing:
        skip_missing(f"{' and '.join(missing)} not on PATH; apt-get install nodejs npm brings them")
    wanted = hashlib.sha256((folder / "package-lock.json").read_bytes()).hexdigest()
    packages = folder / "node_modules"
    mark = packages / ".installed"
    packages.mkdir(exist_ok=True)
    # Tests of one folder may run in several processes.
    with (folder / "package-lock.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not mark.exists() or mark.read_text() != wanted:
            command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)  # noqa: S603 - ours
            assert done.returncode == 0, f"npm ci failed:\n{done.stdout}{done.stderr}"
            mark.write_text(wanted)
    return packages
