"""Checks that this commit can be released, and says what to do next: `make release` runs it after everything else.

Run as `python .ci/check_release.py FOLDER`, which holds the archives and the SBOM.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path

PROJECT = Path(__file__).parents[1]
NEXT = """\
chunkspool {version} can be released:
  git tag -a v{version} -m "chunkspool {version}" && git push origin v{version}
  .venv/bin/python -m twine upload {folder}/chunkspool-{version}-py3-none-any.whl {folder}/chunkspool-{version}.tar.gz
and attach {folder}/chunkspool-{version}.cdx.json to the release.
"""


def main(folder: Path) -> None:
    """Raise `SystemExit` with the first thing that is missing."""
    version = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    dated = re.search(rf"^## {re.escape(version)} - (\S+)$", (PROJECT / "CHANGELOG.md").read_text(), re.MULTILINE)
    today = datetime.now(tz=UTC).date().isoformat()
    if dated is None or dated[1] != today:
        raise SystemExit(f"CHANGELOG.md needs the heading '## {version} - {today}'")
    if changed := git("status", "--porcelain"):
        raise SystemExit(f"commit first, or remove:\n{changed}")
    if git("tag", "--list", f"v{version}"):
        raise SystemExit(f"v{version} has been released: write the next version into pyproject.toml")
    for name in (f"{version}-py3-none-any.whl", f"{version}.tar.gz", f"{version}.cdx.json"):
        if not (folder / f"chunkspool-{name}").exists():
            raise SystemExit(f"chunkspool-{name} was not made")
    sys.stdout.write(NEXT.format(version=version, folder=folder))


def git(*arguments: str) -> str:
    """Return what git prints."""
    command = ["git", "-C", str(PROJECT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603 - ours


if __name__ == "__main__":
    main(Path(sys.argv[1]))
