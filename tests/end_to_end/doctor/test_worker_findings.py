"""Each finding on workers, which are real processes: none, one, two that differ, and those of other apps."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from end_to_end.conftest import StartWorker
from end_to_end.doctor.conftest import Doctor, complaints, told
from support.doctor.examined import PASSWORD
from support.processes.nodes import PROJECT, control_app
from support.servers.redis_server import PrivateServer
from support.servers.roles import documented_rights
from support.waiting import eventually

from chunkspool import Spool
from chunkspool.demo.ports import LOOPBACK
from chunkspool.demo.process import Process
from chunkspool.doctor.worker_report import COMMAND
from chunkspool.store.keys import QueueKeys

PATH = os.pathsep.join((str(PROJECT), str(PROJECT / "tests")))


def test_no_worker(doctor: Doctor, spool: Spool) -> None:
    """Nobody answers; and what waits is told, too."""
    code, found = doctor()
    assert (code, complaints(found)) == (2, {"answers": "error"})
    assert "no worker answered within 3 seconds" in told(found, "answers")
    spool.enqueue("chat", "hello")
    code, found = doctor("--timeout", "1")
    assert (code, complaints(found)) == (2, {"answers": "error", "queue": "error"})


def test_one_good_worker(doctor: Doctor, start_worker: StartWorker) -> None:
    """All is well, and it was asked everything."""
    start_worker("threads", 8)
    code, found = doctor()
    assert (code, complaints(found)) == (0, {})
    assert told(found, "queues") == "chunkspool is served by worker-0@localhost | "
    assert told(found, "pool") == "worker-0@localhost: threads, 8 slots | "
    assert told(found, "settings") == "the same in all workers | "


def test_two_workers_that_differ(doctor: Doctor, start_worker: StartWorker, tmp_path: Path) -> None:
    """In a setting, and in their version: one is an older deploy. Who has what is told."""
    older = tmp_path / "older" / "chunkspool-0.0.9.dist-info"
    older.mkdir(parents=True)
    (older / "METADATA").write_text("Metadata-Version: 2.4\nName: chunkspool\nVersion: 0.0.9\n")
    path = os.pathsep.join((str(older.parent), PATH))
    start_worker("threads", 4, wait=False)
    start_worker("prefork", 2, wait=False, CHUNKSPOOL_IDLE_TIMEOUT="7", PYTHONPATH=path)
    eventually(lambda: len(ping(doctor)) == 2, 60)
    code, found = doctor()
    assert (code, complaints(found)) == (1, {"versions": "warning", "settings": "warning"})
    versions, settings = told(found, "versions"), told(found, "settings")
    assert "chunkspool 0.0.9, Celery" in versions
    assert "finish the deploy" in versions
    assert settings.startswith("CHUNKSPOOL_IDLE_TIMEOUT: 60.0 (worker-0@localhost) / 7.0 (worker-1@localhost) | ")
    assert told(found, "pool").count("slots") == 2


def ping(doctor: Doctor) -> list[str]:
    """Return the workers that answer."""
    _, found = doctor("--timeout", "1")
    return [name for name in told(found, "answers").partition(" | ")[0].split(", ") if "@" in name]


def test_workers_with_other_times_and_limits_than_web_apps(doctor: Doctor, start_worker: StartWorker) -> None:
    """The command stands for the web apps here: it has their environment."""
    start_worker("threads", 4, CHUNKSPOOL_LEASE="3", CHUNKSPOOL_MAX_RUNNING="50")
    code, found = doctor()
    assert (code, complaints(found)) == (1, {"shared settings": "warning"})
    assert "CHUNKSPOOL_LEASE: 5.0 here, 3.0 there" in told(found, "shared settings")
    assert "CHUNKSPOOL_MAX_RUNNING: 200 here, 50 there" in told(found, "shared settings")


def test_a_worker_that_uses_other_logs(doctor: Doctor, start_worker: StartWorker, redis_url: str) -> None:
    """Another database: it would find no chat."""
    start_worker("threads", 4, CHUNKSPOOL_REDIS_URL=redis_url.replace("/0", "/1"), CHUNKSPOOL_BROKER_URL=redis_url)
    code, found = doctor()
    assert (code, complaints(found)) == (1, {"servers": "warning"})
    assert "/1, broker" in told(found, "servers")


def test_a_solo_worker(doctor: Doctor, start_worker: StartWorker) -> None:
    """It runs one generation at a time."""
    start_worker("solo", 1)
    code, found = doctor()
    assert (code, complaints(found)) == (1, {"pool": "warning"})
    assert "-P threads -c 100" in told(found, "pool")


def test_a_worker_on_a_pool_that_is_not_tested(doctor: Doctor, start_worker: StartWorker) -> None:
    """It is named, with the pool that is."""
    start_worker("gevent", 4)
    code, found = doctor()
    assert (code, complaints(found)) == (1, {"pool": "warning"})
    assert told(found, "pool").startswith("worker-0@localhost: gevent, 4 slots | use -P threads")


def test_a_worker_that_does_not_tell_what_it_is(doctor: Doctor, redis_url: str, tmp_path: Path) -> None:
    """It has an older version: that is said, and what follows from it."""
    equipped = {"EQUIPPED": "1", "APP_BROKER": redis_url, "QUEUES": "chunkspool", "OPENAI_API_KEY": "sk-x"}
    with worker_of("mute_app", "chunkspool", tmp_path, redis_url, **equipped):
        code, found = doctor()
    assert (code, complaints(found)) == (1, {"versions": "warning", "pool": "warning"})  # it is solo, too
    assert "other@localhost did not tell its version | restart them" in told(found, "versions")


def test_more_slots_than_a_tenant_may_use(doctor: Doctor, start_worker: StartWorker) -> None:
    """Slots would stay free while generations wait."""
    start_worker("threads", 9, CHUNKSPOOL_MAX_RUNNING="8")
    code, found = doctor(CHUNKSPOOL_MAX_RUNNING="8")
    assert (code, complaints(found)) == (1, {"slots": "warning"})
    assert told(found, "slots").startswith("9 in all, a tenant may use 8 | ")


def test_a_queue_without_a_worker(doctor: Doctor, start_worker: StartWorker) -> None:
    """Web apps send to one queue, and the worker serves another."""
    start_worker("threads", 4, CHUNKSPOOL_QUEUE="theirs")
    code, found = doctor()
    assert (code, complaints(found)) == (2, {"queues": "error"})
    assert "no worker serves chunkspool; those that answered serve theirs" in told(found, "queues")
    code, found = doctor("-Q", "theirs")
    assert (code, complaints(found)) == (0, {})


def test_a_worker_that_stands_still(doctor: Doctor, start_worker: StartWorker, redis_server: PrivateServer) -> None:
    """It has offered slots, and does not answer."""
    start_worker("threads", 4)
    still = start_worker("threads", 4)
    with redis_server.client() as admin:
        eventually(lambda: admin.hlen(QueueKeys("chunkspool").slots) == 2)
    still.container.kill("SIGSTOP")
    try:
        code, found = doctor("--timeout", "1")
    finally:
        still.container.kill(signal.SIGCONT)
    assert (code, complaints(found)) == (1, {"silent workers": "warning"})
    assert told(found, "silent workers").startswith("worker-1@localhost offered slots")


@contextmanager
def worker_of(app: str, queue: str, folder: Path, url: str, **own: str) -> Iterator[Path]:
    """Run `other@localhost`, a worker of another team's app, for a queue; give its log."""
    command = ("celery", "-A", f"support.processes.{app}", "worker", "-P", "solo", "-n", "other@localhost", "-Q", queue)
    environment = {**os.environ, "PYTHONPATH": PATH, "CHUNKSPOOL_REDIS_URL": url, **own}
    process = Process.start("other", (sys.executable, "-m", *command), folder, env=environment, cwd=PROJECT)
    try:
        with control_app("pinging", url) as control:
            asked = partial(control.control.ping, destination=["other@localhost"], timeout=0.5)
            process.wait_until(lambda: bool(asked()), 60)
        yield process.log
    finally:
        process.terminate(20)


def test_a_worker_without_chunkspool_on_our_queue(doctor: Doctor, redis_url: str, tmp_path: Path) -> None:
    """It takes messages that it cannot run."""
    with worker_of("other_app", "chunkspool", tmp_path, redis_url):
        code, found = doctor()
    assert (code, complaints(found)) == (2, {"queues": "error"})
    assert "other@localhost serves chunkspool without chunkspool" in told(found, "queues")


def test_a_worker_of_another_app_is_left_alone(
    doctor: Doctor, start_worker: StartWorker, redis_url: str, tmp_path: Path
) -> None:
    """It is asked nothing but what Celery's own inspect asks, and its log has no complaint."""
    start_worker("threads", 4)
    with worker_of("other_app", "celery", tmp_path, redis_url) as log:
        code, found = doctor()
        assert (code, complaints(found)) == (0, {})
        assert "ERROR" not in log.read_text()


def test_the_report_is_there_for_generations_only(start_worker: StartWorker, redis_url: str, tmp_path: Path) -> None:
    """A worker of an equipped app that serves other queues has no such command; and no report holds a secret."""
    secrets = {
        "OPENAI_API_KEY": "sk-of-openai",
        "ANTHROPIC_API_KEY": "sk-of-anthropic",
        "OPENAI_BASE_URL": "http://user:hidden@127.0.0.1:1/v1",
        "CHUNKSPOOL_TOKEN_SECRET": "0123456789abcdef0123456789abcdef",
    }
    start_worker("threads", 4, **secrets)
    equipped = {"EQUIPPED": "1", "APP_BROKER": redis_url, "RUNS": str(tmp_path / "runs")}
    with worker_of("equipped_app", "celery", tmp_path, redis_url, **equipped), control_app("asking", redis_url) as app:
        replies = app.control.broadcast(COMMAND, reply=True, timeout=2)
    answers = {name: reply for one in replies for name, reply in one.items()}
    assert "KeyError" in answers["other@localhost"]["error"]
    assert answers["worker-0@localhost"]["settings"]["lease"] == 5
    for word in (*secrets.values(), "hidden", PASSWORD, redis_url):
        assert word not in repr(answers)


def test_a_user_who_may_not_ask_workers(doctor: Doctor, start_worker: StartWorker, redis_server: PrivateServer) -> None:
    """A web app's: what could not be asked is told, with the workers that have offered slots."""
    start_worker("threads", 4)
    with redis_server.client() as admin:
        rules = documented_rights()["web"]
        admin.execute_command("ACL", "SETUSER", "chunkspool-web", "on", ">secret", *rules)
        eventually(lambda: admin.hlen(QueueKeys("chunkspool").slots) == 1)
    code, found = doctor(url=f"redis://chunkspool-web:secret@{LOOPBACK}:{redis_server.port}/0")
    assert code == 1
    assert complaints(found)["answers"] == "warning"
    assert "worker-0@localhost" in told(found, "answers")
    assert set(complaints(found).values()) == {"warning"}
