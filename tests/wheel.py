"""Try the built wheel alone in its own venv, like a web app. Run as `python tests/wheel.py FILE.whl`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

LIBRARY = Path(__file__).parents[1] / "chunkspool"
DATA = [
    "py.typed",
    *(
        str(path.relative_to(LIBRARY))
        for folder in ("store/lua", "web/static")
        for path in (LIBRARY / folder).rglob("*")
        if path.is_file()
    ),
]
TRY = """
import importlib.util, sys
from chunkspool import Spool
from chunkspool.store.scripts import load
assert not {"celery", "starlette"} & set(sys.modules), "import chunkspool loads too much"
assert not any(map(importlib.util.find_spec, ("worker", "tasks", "demo", "tests", "bench"))), "it has other packages"
assert all(load(name).text for name in ("enqueue", "claim", "append", "stop", "erase")), "a script is missing"
with Spool.from_url("redis://127.0.0.1:1/0") as spool:
    assert spool.settings.log.tenant == "default"
import kombu.transport.redis  # like the first enqueue: its requirements must be installed, too
"""
WITHOUT_EXTRA = "chunkspool's command line needs its extra"


def main(wheel: Path) -> None:
    """Raise `AssertionError` or `CalledProcessError` if the wheel is not as expected."""
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert len(tops) == 2, f"only chunkspool and its metadata belong in the wheel: {tops}"
    missing = {f"chunkspool/{name}" for name in DATA} - set(names)
    assert not missing, f"the wheel lacks {missing}"
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / "bin" / "python"
        constraints = Path(__file__).parents[1] / "constraints.txt"
        pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", constraints)
        run(*pip, wheel)
        run(python, "-I", "-c", TRY)
        result = subprocess.run([python.with_name("chunkspool")], capture_output=True, text=True, check=False)  # noqa: S603 - the wheel's own command
        assert result.returncode == 2, result
        assert WITHOUT_EXTRA in result.stderr, result.stderr
        run(*pip, f"{wheel}[cli]")
        run(python.with_name("chunkspool"), "--help")
    sys.stdout.write(f"{wheel.name}: fine\n")


def run(*command: object) -> None:
    """Run a command of the venv; show its output if it fails."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)  # noqa: S603 - ours
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
