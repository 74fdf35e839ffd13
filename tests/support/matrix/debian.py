"""Programs of another Debian release, unpacked into a folder: the machine stays as it is, and nobody must be root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

_KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
_LIBRARIES = ("libc6", "libstdc++6", "zlib1g")
"""What programs need that were built for a newer C library than this machine has."""


def unpack(suite: str, packages: Sequence[str], folder: Path) -> Path:
    """Unpack packages of a release, and what they depend on; return the root of the tree. Once."""
    root = folder / "root"
    if not (folder / "ready").exists():
        archives = _download(suite, (*packages, *_LIBRARIES), folder / "apt")
        root.mkdir(parents=True, exist_ok=True)
        for archive in archives:
            _run("dpkg-deb", "--extract", str(archive), str(root))
        (folder / "ready").touch()
    return root


def write_starter(root: Path, program: str, target: Path, argv0: str) -> Path:
    """Write a script that runs a program of the tree with the tree's own C library; return its path.

    `argv0` is the name by which the program is called, as the shell is to see it.
    """
    loader = next(root.rglob("ld-linux-*.so.*"))
    libraries = ":".join(sorted({str(found.parent) for found in root.rglob("*.so.*") if "gconv" not in found.parts}))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(
        f'#!/bin/sh\nexec "{loader}" --library-path "{libraries}" --argv0 {argv0} "{root / program}" "$@"\n'
    )
    target.chmod(0o755)
    return target


def _download(suite: str, packages: Sequence[str], state: Path) -> list[Path]:
    """Have apt-get find what is needed, as on a machine that has nothing, and return the archives."""
    for part in ("lists/partial", "archives/partial"):
        (state / part).mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    sources = state / "sources.list"
    sources.write_text(f"deb [signed-by={_KEYS}] {_find_mirror()} {suite} main\n")
    own = {
        "Dir::State": state,
        "Dir::State::Lists": state / "lists",
        "Dir::State::Status": state / "status",
        "Dir::Cache": state,
        "Dir::Cache::Archives": state / "archives",
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": "-",
        "Debug::NoLocking": "true",
        "APT::Sandbox::User": "root" if os.geteuid() == 0 else "",
    }
    options = [word for name, value in own.items() for word in ("-o", f"{name}={value}")]
    _run("apt-get", *options, "update", "-qq")
    _run("apt-get", *options, "install", "-qq", "--download-only", "--no-install-recommends", "-y", *packages)
    return sorted((state / "archives").glob("*.deb"))


def _find_mirror() -> str:
    """Return the mirror that this machine uses itself."""
    found = _run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages")
    return next(line for line in found.splitlines() if "security" not in line)


def _run(*command: str) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout  # noqa: S603 - our own words
