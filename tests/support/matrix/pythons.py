"""The Pythons that the matrix runs: found on this machine, or Debian's, each with a venv of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from support.matrix.debian import unpack, write_starter
from support.matrix.servers import Missing
from support.processes.nodes import PROJECT

_SUITES = {"3.13": "trixie", "3.14": "testing"}
"""Debian's releases that have a Python that this machine may lack."""


def provide_python(version: str, folder: Path) -> Path:
    """Return the Python of a venv that has the project and what its tests need, as constraints.txt has it."""
    python = folder / "venv" / "bin" / "python"
    if not (folder / "ready").exists():
        shutil.rmtree(folder / "venv", ignore_errors=True)
        base = next(_find(version), None) or _unpack(version, folder)
        # Without pip: Debian's Python has it in another package. The one of this venv installs into the other.
        _run(base, "-m", "venv", "--without-pip", folder / "venv")
        pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--disable-pip-version-check")
        _run(*pip, "-c", PROJECT / "constraints.txt", "-e", f"{PROJECT}[test]")
        (folder / "ready").touch()
    return python


def _find(version: str) -> Iterator[Path]:
    """Yield the Pythons of this version that can make a venv: on PATH, and pyenv's, if there is a pyenv."""
    for path in (shutil.which(f"python{version}"), *_list_pyenvs(version)):
        if path and subprocess.run([path, "-c", "import venv"], capture_output=True, check=False).returncode == 0:  # noqa: S603 - a Python
            yield Path(path)


def _list_pyenvs(version: str) -> list[str]:
    pyenv = shutil.which("pyenv")
    if pyenv is None:
        return []
    root = subprocess.run([pyenv, "root"], capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603 - found
    return sorted(str(path) for path in Path(root).glob(f"versions/{version}.*/bin/python"))


def _unpack(version: str, folder: Path) -> Path:
    if version not in _SUITES or shutil.which("apt-get") is None:
        raise Missing(f"this machine has no Python {version}")
    name = f"python{version}"
    root = unpack(_SUITES[version], (name, f"{name}-venv"), folder)
    # Beside the program, because Python looks for its library from where it was started.
    return write_starter(root, f"usr/bin/{name}", root / "usr" / "bin" / "python-started", '"$0"')


def _run(*command: object) -> None:
    done = subprocess.run([str(word) for word in command], check=False)  # noqa: S603 - our own words
    if done.returncode:
        raise Missing(f"{' '.join(map(str, command[:6]))} … ended with {done.returncode}")
