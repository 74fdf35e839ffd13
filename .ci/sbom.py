"""Writes the wheel's SBOM (CycloneDX, JSON): what `pip install 'chunkspool[cli,web,worker]'` brings, as it is tested.

Run as `python .ci/sbom.py FOLDER`, which holds the wheel. The versions are those of constraints.txt, installed into an
empty venv, and cyclonedx-py reads that: what pip left out for this Python and system is not in it. The JavaScript that
the wheel itself holds is added.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

PROJECT = Path(__file__).parents[1]
VENDORED = PROJECT / "chunkspool" / "web" / "static" / "vendor"
EXTRAS = "cli,web,worker"


def main(folder: Path) -> None:
    """Write the file beside the wheel. Raises `SystemExit` if it is wrong."""
    (wheel,) = folder.glob("*.whl")
    target = folder / f"{'-'.join(wheel.name.split('-')[:2])}.cdx.json"
    with tempfile.TemporaryDirectory() as empty:
        python = Path(empty) / "bin" / "python"
        venv.create(empty)
        run(
            "-m",
            "pip",
            "--python",
            python,
            "install",
            "--quiet",
            "-c",
            PROJECT / "constraints.txt",
            f"{wheel}[{EXTRAS}]",
        )
        describe = ("--pyproject", PROJECT / "pyproject.toml", "--mc-type", "library", "--output-reproducible")
        run(
            "-m",
            "cyclonedx_py",
            "environment",
            *describe,
            "--sv",
            "1.6",
            "--of",
            "JSON",
            "--validate",
            "-o",
            target,
            python,
        )
        installed = run("-m", "pip", "--python", python, "list", "--format", "json")
    bom = add_vendored(json.loads(target.read_text()))
    target.write_text(json.dumps(bom, indent=2) + "\n")
    expect("CycloneDX's schema", JsonStrictValidator(SchemaVersion.V1_6).validate_str(target.read_text()), None)
    check(bom, {one["name"]: one["version"] for one in json.loads(installed)})
    sys.stdout.write(f"{target.name}: {len(bom['components'])} components\n")


def add_vendored(bom: dict[str, Any]) -> dict[str, Any]:
    """Add the packages of npm whose code is in the wheel: the files of their licences name them."""
    heads = (re.findall(r"^== (\S+) (\S+)$", file.read_text(), re.MULTILINE) for file in VENDORED.glob("*.LICENSE.txt"))
    packages = [(name, version, f"pkg:npm/{name}@{version}") for found in heads for name, version in found]
    root = bom["metadata"]["component"]["bom-ref"]
    bom["components"] += [
        {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
        for name, version, purl in packages
    ]
    for one in bom["dependencies"]:
        if one["ref"] == root:
            one["dependsOn"] += [purl for _, _, purl in packages]
    return bom


def check(bom: dict[str, Any], installed: dict[str, str]) -> None:
    """Raise `SystemExit` if it lacks a package, names another version, or does not say what needs what."""
    described = bom["metadata"]["component"]
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    expect("itself", (described["name"], described["version"]), (project["name"], project["version"]))
    python = [one for one in bom["components"] if one.get("purl", "").startswith("pkg:pypi/")]
    found = {normal(one["name"]): one["version"] for one in python}
    expect("packages", found, {normal(name): version for name, version in installed.items() if name != project["name"]})
    expect("other packages", len(bom["components"]) > len(python), True)  # noqa: FBT003 - what is expected
    names = {one["bom-ref"]: normal(one["name"]) for one in (described, *bom["components"])}
    needs = {names[one["ref"]]: {names[ref] for ref in one.get("dependsOn", ())} for one in bom["dependencies"]}
    expect("packages that nothing needs", found.keys() - reached(needs, project["name"]), set())


def reached(needs: dict[str, set[str]], name: str) -> set[str]:
    """Return what a package needs, and what that needs."""
    seen: set[str] = set()
    open_ones = {name}
    while open_ones:
        seen |= open_ones
        open_ones = set().union(*(needs.get(one, set()) for one in open_ones)) - seen
    return seen


def expect(what: str, found: object, expected: object) -> None:
    """Raise `SystemExit` unless both are the same."""
    if found != expected:
        raise SystemExit(f"the SBOM is wrong about {what}: {found!r} is not {expected!r}")


def normal(name: str) -> str:
    """Return a package's name as indexes spell it."""
    return name.lower().replace("_", "-").replace(".", "-")


def run(*arguments: object) -> str:
    """Run a module of this Python; return what it prints."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command: Iterable[str] = (sys.executable, *map(str, arguments))
    return subprocess.run(command, env=kept, stdout=subprocess.PIPE, text=True, check=True).stdout  # noqa: S603 - ours


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
