"""Try the built archives as an adopter does: in empty venvs of two Pythons, with no checkout at hand.

Run as `python tests/wheel.py FOLDER`, which holds the wheel and the sdist.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

PROJECT = Path(__file__).parents[1]
sys.path[:0] = [str(PROJECT / "tests"), str(PROJECT)]

from support.models.model_servers import LlamaServer  # noqa: E402 - found there only
from support.servers.redis_server import embedded_server  # noqa: E402 - the same

LIBRARY = PROJECT / "chunkspool"
DATA = [
    "py.typed",
    *(
        str(path.relative_to(LIBRARY))
        for folder in ("store/lua", "web/static")
        for path in (LIBRARY / folder).rglob("*")
        if path.is_file()
    ),
    # Folders of the repository that are modules of the library.
    "worker/equip.py",
    "worker/celeryconfig.py",
    "tasks/providers/openai_api.py",
    "demo/__main__.py",
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
QUESTION = "What is in the box?"
CELERYS = ("celery", "-A", "chunkspool.worker", "worker", "-P", "threads", "-c", "4", "-n", "w@localhost")
OURS = ("chunkspool", "worker", "--slots", "4", "-n", "w@localhost")
PATIENCE = 60.0
OTHERS = ("3.14", "3.13", "3.12")
"""Pythons of which one is tried beside this one."""


def main(folder: Path) -> None:
    """Raise `AssertionError` or `CalledProcessError` if an archive is not as expected."""
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    check_content(wheel)
    pythons = [Path(sys.executable), *find_another_python()]
    for number, python in enumerate(pythons):
        with tempfile.TemporaryDirectory() as empty:
            venv = Venv(python, Path(empty))
            # The second Python gets it from the source archive: that must build, too.
            try_it(venv, sdist if number else wheel, demo=not number)
            say(f"{wheel.name if not number else sdist.name} with {venv.version}: fine")


def check_content(wheel: Path) -> None:
    """Only chunkspool belongs in the wheel, with all its files."""
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert len(tops) == 2, f"only chunkspool and its metadata belong in the wheel: {tops}"
    missing = {f"chunkspool/{name}" for name in DATA} - set(names)
    assert not missing, f"the wheel lacks {missing}"


def find_another_python() -> Iterator[Path]:
    """Yield the newest other Python that this machine has. In CI there must be one."""
    mine = f"{sys.version_info.major}.{sys.version_info.minor}"
    for version in (one for one in OTHERS if one != mine):
        for path in (shutil.which(f"python{version}"), *pyenv_pythons(version)):
            if path and subprocess.run([path, "-c", "import venv"], capture_output=True, check=False).returncode == 0:  # noqa: S603 - a Python
                yield Path(path)
                return
    assert "CI" not in os.environ, "CI tries the wheel with two Pythons, and this machine has one"
    say("skipped: the wheel was not tried with another Python, because this machine has none")


def pyenv_pythons(version: str) -> list[str]:
    """Return the Pythons of this version that pyenv has, if there is a pyenv."""
    pyenv = shutil.which("pyenv")
    if pyenv is None:
        return []
    root = subprocess.run([pyenv, "root"], capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603 - found
    return [str(path) for path in Path(root).glob(f"versions/{version}.*/bin/python")]


class Venv:
    """An empty venv in an empty folder."""

    def __init__(self, python: Path, folder: Path) -> None:
        """Create it."""
        self.folder = folder
        self._bin = folder / "venv" / "bin"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CHUNKSPOOL_", "PYTHON"))}
        self.environment = {**kept, "COLUMNS": "200"}
        self.run(python, "-m", "venv", folder / "venv")
        self.version = self.run("python", "--version").stdout.strip()

    def install(self, what: str) -> None:
        """Install it, with the tested versions of what it needs."""
        pip = ("python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        self.run(*pip, "-c", PROJECT / "constraints.txt", what)

    def command(self, *command: object) -> list[str]:
        """Return a command line; a plain name is the venv's."""
        first, *rest = (str(part) for part in command)
        return [first if "/" in first else str(self._bin / first), *rest]

    def run(
        self, *command: object, code: int = 0, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the empty folder; show its output if its exit code is another one."""
        done = subprocess.run(  # noqa: S603 - ours
            self.command(*command),
            cwd=self.folder,
            env={**self.environment, **(environment or {})},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    @contextmanager
    def start(self, *command: object, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
        """Run a command within the block; end it in order."""
        log = self.folder / "log"
        with log.open("w") as output:
            process = subprocess.Popen(  # noqa: S603 - ours
                self.command(*command),
                cwd=self.folder,
                env={**self.environment, **environment},
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )
            try:
                yield process
                process.send_signal(signal.SIGTERM)
                assert process.wait(PATIENCE) == 0, log.read_text()
            finally:
                process.kill()
                process.wait()


def try_it(venv: Venv, archive: Path, *, demo: bool) -> None:
    """Use the library alone, then the worker, started in both ways, then the demo."""
    venv.install(str(archive))
    venv.run("python", "-I", "-c", TRY)
    told = venv.run("chunkspool", code=2)
    assert WITHOUT_EXTRA in told.stderr, told.stderr
    venv.install(f"{archive}[cli]")
    told = venv.run("chunkspool", "worker", code=2)
    assert "pip install 'chunkspool[cli,worker]'" in told.stderr, told.stderr
    venv.install(f"{archive}[cli,worker]")
    with embedded_server(venv.folder) as server:
        environment = {"CHUNKSPOOL_REDIS_URL": server.url, "CHUNKSPOOL_PROVIDER": "scripted"}
        for worker in (CELERYS, OURS):
            answer_with(venv, worker, environment)
    venv.install(f"{archive}[testing]")
    for name in ("own_task.py", "test_own_task.py"):
        (venv.folder / "examples").mkdir(exist_ok=True)
        shutil.copy(PROJECT / "examples" / name, venv.folder / "examples")
    venv.run("python", "-m", "pytest", "-W", "error", "examples/test_own_task.py")
    if demo:
        venv.install(f"{archive}[demo]")
        with LlamaServer(venv.folder) as model:
            environment = {"OPENAI_BASE_URL": model.base_url, "OPENAI_API_KEY": "none"}
            assert "✓" in venv.run("chunkspool", "demo", "--once", environment=environment).stdout


def answer_with(venv: Venv, worker: Sequence[str], environment: Mapping[str, str]) -> None:
    """Start a worker, ask it, and read its answer, with nothing but what was installed."""
    with venv.start(*worker, environment=environment):
        started = time.monotonic()
        answer = venv.run("chunkspool", "ask", worker[0], QUESTION, environment=environment).stdout
        assert QUESTION in answer, answer
        say(f"  {' '.join(worker)}: answered after {time.monotonic() - started:.1f} s")


def say(line: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
