"""The base images of the Dockerfile and docker-compose.yml: pulled, or made of Debian where no registry is reached.

There is none of Grafana's: Debian does not have it.
"""

from __future__ import annotations

import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from support.containers.docker_engine import BASE_IMAGES, HOST_NETWORK, run
from support.containers.own_engine import EngineMissing, ask, find_client

RECIPES = Path(__file__).with_name("images")
DEBIAN, SUITE = "debian:trixie-slim", "trixie"
PULL_SECONDS = 300
DEBIAN_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
PIP_SETTINGS = {"index-url": "global.index-url", "trusted-host": "global.trusted-host", "timeout": "global.timeout"}


def provide_base_images(environment: Mapping[str, str]) -> None:
    """Make all of them available under their own names. Raises `EngineMissing`."""
    missing = [image for image in BASE_IMAGES if not (_has(image, environment) or _pull(image, environment))]
    if missing and not _has(DEBIAN, environment):
        _make_debian(environment)
    # Side by side: each of them waits for packages, and then unpacks them.
    with ThreadPoolExecutor() as builds:
        list(builds.map(partial(_build, environment=environment), missing))


def _has(image: str, environment: Mapping[str, str]) -> bool:
    return ask("image", "inspect", image, environment=environment) is None


def _pull(image: str, environment: Mapping[str, str]) -> bool:
    try:
        done = subprocess.run(  # noqa: S603 - our own words
            [find_client(), "pull", "--quiet", image],
            env=environment,
            capture_output=True,
            timeout=PULL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _make_debian(environment: Mapping[str, str]) -> None:
    program = shutil.which("debootstrap", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        raise EngineMissing("no registry is reached, and debootstrap is not installed; on Debian: make setup-docker")
    with tempfile.TemporaryDirectory(prefix="debian-") as folder:
        root = Path(folder, "root")
        run(program, "--variant=minbase", SUITE, str(root))
        for old in (*root.glob("var/cache/apt/archives/*.deb"), *root.glob("var/lib/apt/lists/*_*")):
            old.unlink()
        packed = str(Path(folder, "packed.tar"))
        run("tar", "--create", "--file", packed, "--directory", str(root), ".")
        run(find_client(), "import", packed, DEBIAN, environment=environment)


def _build(image: str, environment: Mapping[str, str]) -> None:
    recipe = RECIPES / f"{re.sub('[:/]', '_', image)}.Dockerfile"
    with tempfile.TemporaryDirectory(prefix="image-") as context:
        _tell_where_packages_come_from(Path(context))
        command = ("build", *HOST_NETWORK, "--tag", image, "--file", str(recipe), context)
        run(find_client(), *command, environment={**environment, "DOCKER_BUILDKIT": "0"})


def _tell_where_packages_come_from(context: Path) -> None:
    """Write the certificates that this machine trusts and the package index that its pip asks."""
    trusted = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile or DEBIAN_CERTIFICATES
    shutil.copyfile(trusted, context / "ca-certificates.crt")
    lines = ["[global]", f"cert = {DEBIAN_CERTIFICATES}"]
    lines += [f"{name} = {found}" for name, setting in PIP_SETTINGS.items() if (found := _pip_setting(setting))]
    (context / "pip.conf").write_text("\n".join(lines) + "\n")


def _pip_setting(name: str) -> str:
    """Return what this machine's pip has for a setting; an environment variable wins over its files."""
    variable = f"PIP_{name.rpartition('.')[2].upper().replace('-', '_')}"
    if found := os.environ.get(variable):
        return found
    command = [sys.executable, "-m", "pip", "config", "get", name]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603 - fixed words
