"""A Docker engine: the one that answers, or one of our own for as long as it is needed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from chunkspool.demo.process import CannotStart, Process

START_SECONDS = 60
STOP_SECONDS = 30
ISOLATED = ("--bridge", "none", "--iptables=false", "--ip6tables=false")
"""It leaves this machine's network as it is: no bridge and no rule remains of it. Containers reach each other, and
published ports are passed on; who builds an image needs `--network host` to reach a package index."""


class EngineMissing(Exception):
    """There is no engine, and none can be started; the message says why."""


def find_client() -> str:
    """Return the path of the command `docker`. Raises `EngineMissing`."""
    found = shutil.which("docker")
    if found is None:
        raise EngineMissing("docker is not on PATH; on Debian: make setup-docker")
    return found


def ask(*words: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """Return None if the client's command succeeds, otherwise the last line of what it says."""
    done = subprocess.run([find_client(), *words], env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    if done.returncode == 0:
        return None
    return (done.stderr or done.stdout).strip().rpartition("\n")[2]


@contextmanager
def provide_engine() -> Iterator[dict[str, str]]:
    """Give the environment in which `docker` has an engine; one that was started for it is gone afterwards.

    Raises `EngineMissing`.
    """
    if ask("info") is None:
        yield dict(os.environ)
        return
    with tempfile.TemporaryDirectory(prefix="engine-") as folder:
        environment = {**os.environ, "DOCKER_HOST": f"unix://{folder}/socket"}
        engine = _start(Path(folder), environment)
        try:
            yield environment
        finally:
            engine.terminate(STOP_SECONDS)
            _unmount(folder)


def _start(folder: Path, environment: Mapping[str, str]) -> Process:
    daemon = shutil.which("dockerd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if daemon is None:
        raise EngineMissing("no engine answers, and dockerd is not installed; on Debian: make setup-docker")
    if os.geteuid() != 0:
        raise EngineMissing("no engine answers, and only root can start one")
    (folder / "daemon.json").write_text("{}")  # this machine's own may have options that contradict ours
    paths = {"config-file": "daemon.json", "data-root": "data", "exec-root": "exec", "pidfile": "pid"}
    options = [word for name, path in paths.items() for word in (f"--{name}", str(folder / path))]
    engine = Process.start("dockerd", [daemon, *options, *ISOLATED, "--host", environment["DOCKER_HOST"]], folder)
    try:
        engine.wait_until(lambda: ask("info", environment=environment) is None, START_SECONDS)
    except CannotStart as failed:
        raise EngineMissing(str(failed)) from failed
    return engine


def _unmount(folder: str) -> None:
    """Take away what the engine leaves mounted, so that its folder can be removed."""
    targets = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for target in sorted((one for one in targets if one.startswith(folder)), reverse=True):
        subprocess.run(["umount", target], check=True)  # noqa: S603, S607 - a path of our own folder
