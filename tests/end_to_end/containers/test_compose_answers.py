"""docker-compose.yml, unchanged, with a filled-in .env.example: answers come out of it, and outlive what runs them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest
from support.chats.spools import spool_for
from support.containers.compose import Stack
from support.containers.container_metrics import ask_prometheus, scrape
from support.processes import command
from support.waiting import eventually
from support.web.sse import SseParser

from chunkspool import fold
from chunkspool.events import Event, GenerationStarted, TextDelta, decode

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]
log = logging.getLogger(__name__)
PATIENCE = 90.0
PIECES, MOST_TOKENS = 5, 300
"""After how many pieces of text the worker is killed, and how long the answer may become."""
STORY = {"prompt": "Tell me a long story about a lighthouse.", "params": {"max_tokens": MOST_TOKENS}}
ENDED, SECOND = (
    'chunkspool_generations_ended_total{code="none",state="completed"}',
    'chunkspool_attempts_total{number="2"}',
)


def follow(web: httpx.Client, asked: dict[str, Any]) -> Iterator[tuple[int, Event]]:
    """Yield the events of an answer with their seqs, as they come, up to its ending."""
    parser = SseParser()
    with web.stream("GET", asked["links"]["events"]) as reply:
        for piece in reply.iter_bytes():
            for found in parser.events(piece):
                event = decode(found.data.encode(), found.seq)
                yield found.seq, event
                if event.type in {"generation.completed", "generation.failed", "generation.stopped"}:
                    return


def find_worker(flower: httpx.Client, generation_id: str) -> str:
    """Return the host name of the worker that runs a generation; empty until Flower knows it."""
    reply = flower.get(f"/api/task/info/{generation_id}")
    worker = reply.json().get("worker") if reply.status_code == httpx.codes.OK else None
    return str(worker or "").partition("@")[2]


def test_an_answer_outlives_the_container_that_runs_it(stack: Stack, web: httpx.Client, flower: httpx.Client) -> None:
    """It is killed in mid-answer; the other worker continues, and whoever follows sees each event once, to the end."""
    eventually(lambda: stack.health("worker") == {"healthy"} == stack.health("model"), PATIENCE, 1)
    before = scrape(stack, "worker")
    asked = web.post("/v1/chats/story/generations", json=STORY).json()
    log.info("asked through web: generation %s", asked["generation"])
    seen: list[tuple[int, Event]] = []
    killed = ""
    with closing(follow(web, asked)) as events:
        for seq, event in events:
            seen.append((seq, event))
            if not isinstance(event, TextDelta):
                log.info("seq %d: %s", seq, event.model_dump_json(exclude={"generation_id"}))
            elif not killed and sum(isinstance(one, TextDelta) for _, one in seen) == PIECES:
                killed = eventually(lambda: find_worker(flower, asked["generation"]), PATIENCE, 0.1)
                log.info("seq %d: Flower says that %s runs it; docker kill %s", seq, killed, killed)
                stack.kill(killed)

    assert [seq for seq, _ in seen] == list(range(1, len(seen) + 1))
    assert [event.type for _, event in seen].count("generation.completed") == 1
    starts = [event for _, event in seen if isinstance(event, GenerationStarted)]
    assert [starts[0].attempt, starts[-1].attempt] == [1, 2]
    (answer,) = fold(event for _, event in seen)
    assert web.get("/v1/chats/story").json()["answers"][0]["text"] == answer.text
    log.info("ended: seq 1 to %d, none missing, none twice; %d characters", len(seen), len(answer.text))

    other = find_worker(flower, asked["generation"])
    after = scrape(stack, "worker")  # of the other worker: the killed one has no address any more
    log.info("Flower says that %s has ended it", other)
    for name in (SECOND, ENDED):
        log.info("%s: %g, then %g", name, before.get(name, 0), after.get(name, 0))
    assert other not in {"", killed}
    assert (after[SECOND], after[ENDED]) == (1, 1)


def test_prometheus_sees_it(stack: Stack) -> None:
    """The profile `monitoring`: it finds the web app and each worker by their names, and what they count moves."""
    # It asks every 15 seconds: until then it has what the worker said before, which is 0.
    found = eventually(
        lambda: {name: n for name, n in ask_prometheus(stack, f"sum({SECOND})").items() if n}, PATIENCE, 1
    )
    up = ask_prometheus(stack, "sum by (job) (up)")
    log.info("Prometheus: %s, sum(%s) = %g", up, SECOND, found[""])
    assert found == {"": 1}
    assert up["chunkspool-web"] == 1
    assert ask_prometheus(stack, "sum(chunkspool_generations_queued_total)")[""] >= 1
    stack.compose("start", "worker")


def test_the_metrics_want_their_token(stack: Stack) -> None:
    """Nobody reads them without it, and no port of a worker is open outside."""
    assert httpx.get(f"{stack.url('web')}/metrics").status_code == httpx.codes.UNAUTHORIZED
    assert all(not any(container["NetworkSettings"]["Ports"].values()) for container in stack.inspect("worker"))


def test_web_and_flower_want_to_know_who_it_is(stack: Stack, web: httpx.Client, flower: httpx.Client) -> None:
    """The page is everybody's; chats, tasks and commands are not."""
    assert web.get("/").status_code == flower.get("/api/tasks").status_code == httpx.codes.OK
    for url in (f"{stack.url('web')}/v1/chats/story", f"{stack.url('flower')}/api/tasks", stack.url("flower")):
        assert httpx.get(url).status_code == httpx.codes.UNAUTHORIZED, url
    log.info("without a token or password: 401 from web and Flower")


def test_the_command_line_asks_from_outside(stack: Stack) -> None:
    """Redis is published on this machine: asked and read there, answered in the container."""
    done = command.run(stack.redis_url, "ask", "chat", "hello", "--model", "scripted")
    assert (done.returncode, done.stdout.strip()) == (0, "You said: hello"), done.stderr


def test_the_command_line_is_in_the_image(stack: Stack) -> None:
    """With the web app's settings: what a chat's users need is made there."""
    assert stack.execute("web", "chunkspool", "token", "chat").startswith("v1.")
    assert "completed" in stack.execute("web", "chunkspool", "status", "chat")


def test_a_worker_that_is_stopped_ends_its_answer(stack: Stack) -> None:
    """It is told by the engine, ends within its grace, and exits with 0."""
    script = [{"text": "slow "}, {"wait": 2}, {"text": "but whole"}]
    with spool_for(stack.redis_url) as spool:
        asked = spool.enqueue("stopped", "hello", model="scripted", params={"script": script})
        with spool.subscribe("stopped", until=asked.generation_id) as entries:
            seen = [next(entry.event for entry in entries if entry.event.type == "text.delta")]
            stack.compose("stop", "worker")
            seen += [entry.event for entry in entries]
        assert seen[-1].type == "generation.completed"
        assert fold(entry.event for entry in spool.read("stopped"))[0].text == "slow but whole"
    assert [container["State"]["ExitCode"] for container in stack.inspect("worker")] == [0, 0]
    stack.compose("start", "worker")


def test_a_log_outlives_its_redis(stack: Stack) -> None:
    """The container's user can write the volume, and the log is read from it after a restart."""
    with spool_for(stack.redis_url) as spool:
        asked = spool.enqueue("kept", "hello", model="scripted")
        with spool.subscribe("kept", until=asked.generation_id) as entries:
            before = [entry.event for entry in entries]
        stack.compose("restart", "redis")
        assert [entry.event for entry in spool.read("kept")] == before
