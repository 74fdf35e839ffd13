"""`make docker`: the tests that need a Docker engine, with one that is started if none answers."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack

from support.containers.base_images import provide_base_images
from support.containers.docker_engine import PROJECT
from support.containers.own_engine import EngineMissing, provide_engine


def main() -> None:
    """Run them; without an engine they are skipped, each with the reason."""
    with ExitStack() as stack:
        environment = dict(os.environ)
        try:
            environment = stack.enter_context(provide_engine())
            provide_base_images(environment)
        except EngineMissing as missing:
            sys.stdout.write(f"No Docker engine for the tests: {missing}\n")
        command = [sys.executable, "-m", "pytest", "-m", "docker", "tests/end_to_end/containers", *sys.argv[1:]]
        raise SystemExit(subprocess.run(command, cwd=PROJECT, env=environment, check=False).returncode)  # noqa: S603 - ours


if __name__ == "__main__":
    main()
