"""Runs the Django example in processes: its database, its servers, its worker; and logs people in."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx
from support.processes.nodes import PROJECT
from support.web.app_server import AppServer

from chunkspool.demo.ports import LOOPBACK, free_port, is_taken
from chunkspool.demo.process import Process

PASSWORD = "open sesame"
USERS = ("ann", "ben")
THREADS = 3
"""Streams that a server with threads can have open in most of these tests."""
GRACE = 5
"""Seconds that a server waits for its streams when it is to exit, as in the example's docstring."""
_UVICORN = (sys.executable, "-m", "uvicorn", "--http", "h11", "--timeout-graceful-shutdown", str(GRACE))
_GUNICORN = (sys.executable, "-m", "gunicorn", "--no-control-socket", "-k", "gthread", "--graceful-timeout", str(GRACE))
SERVERS = ("uvicorn", "gthread")
APPS = {"uvicorn": "examples.django_chat.asgi:application", "gthread": "examples.django_chat.wsgi"}


def make_database(folder: Path) -> Path:
    """Make the database with its users by the project's own commands; return its file."""
    file = folder / "db.sqlite3"
    _manage(file, "migrate", "--verbosity=0")
    for name in USERS:
        _manage(
            file, "createsuperuser", "--noinput", "--verbosity=0", f"--username={name}", f"--email={name}@a.example"
        )
    return file


def _manage(database: Path, *words: str) -> None:
    own = {"DJANGO_SQLITE": str(database), "DJANGO_SUPERUSER_PASSWORD": PASSWORD}
    command = [sys.executable, "-W", "error", PROJECT / "examples" / "django_chat" / "manage.py", *words]
    subprocess.run(command, env={**os.environ, **own}, check=True, timeout=60)  # noqa: S603 - ours


@dataclass(frozen=True, slots=True)
class Project:
    """The example with a database of its own."""

    folder: Path
    environment: Mapping[str, str]

    @classmethod
    def make(cls, folder: Path, database: Path, redis_url: str, **environment: str) -> Self:
        """Copy the `database` into `folder`."""
        folder.mkdir(exist_ok=True)
        copy = folder / "db.sqlite3"
        copy.write_bytes(database.read_bytes())
        own = {"CHUNKSPOOL_REDIS_URL": redis_url, "CELERY_BROKER_URL": redis_url, "CHUNKSPOOL_PROVIDER": "scripted"}
        own["CHUNKSPOOL_KEEP_MESSAGES"] = "false"  # the tests count seqs
        django = {"DJANGO_SECRET_KEY": "made-up", "DJANGO_SQLITE": str(copy)}
        path = os.pathsep.join((str(PROJECT), str(PROJECT / "tests")))
        return cls(folder, {**os.environ, "PYTHONPATH": path, **own, **django, **environment})

    @property
    def database(self) -> Path:
        """The database's file."""
        return Path(self.environment["DJANGO_SQLITE"])

    def count_messages(self, chat_id: str) -> int:
        """Return how many messages of the chat are saved."""
        with sqlite3.connect(self.database) as connection:
            (found,) = connection.execute("SELECT count(*) FROM chats_message WHERE chat_id = ?", [chat_id]).fetchone()
        connection.close()
        return int(found)

    def start_worker(self, slots: int = 4) -> Process:
        """Start a worker by the command in the example's docstring."""
        command = (sys.executable, "-m", "celery", "-A", "examples.django_chat", "worker", "-Q", "chunkspool")
        worker = self._start("worker", (*command, "-P", "threads", "-c", str(slots), "--loglevel=INFO"))
        worker.wait_until(lambda: " ready." in worker.log.read_bytes()[worker.log_start :].decode(), 60)
        return worker

    def start_server(
        self, kind: str, *, port: int = 0, threads: int = THREADS, apps: Mapping[str, str] = APPS
    ) -> AppServer:
        """Start a server by the command in the example's docstring; `apps` may name another app for each kind."""
        port = port or free_port()
        commands = {
            "uvicorn": (*_UVICORN, "--port", str(port), apps[kind]),
            "gthread": (*_GUNICORN, "--threads", str(threads), "--bind", f"{LOOPBACK}:{port}", apps[kind]),
        }
        process = self._start(kind, commands[kind])
        process.wait_until(lambda: is_taken(port), 60)
        return AppServer(process, kind, port)

    def _start(self, name: str, command: Sequence[str]) -> Process:
        return Process.start(name, command, self.folder, env=self.environment, cwd=PROJECT)


def log_in(client: httpx.Client, name: str) -> None:
    """Log in as a browser does; from then on the client sends the CSRF token, as the page's script would."""
    client.get("/accounts/login/")
    form = {"username": name, "password": PASSWORD, "csrfmiddlewaretoken": client.cookies["csrftoken"]}
    assert client.post("/accounts/login/", data=form).status_code == 302
    client.headers["X-CSRFToken"] = client.cookies["csrftoken"]


def make_chat(client: httpx.Client) -> str:
    """Return the id of a new chat."""
    made = client.post("/chats")
    assert made.status_code == 201, made.text
    return str(made.json()["id"])
