"""The web apps of the README, each in a real server: ask, leave, come back, stop, and all that can go wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from end_to_end.conftest import StartWorker
from redis import Redis
from support.chats.logs import CHAT, KEYS
from support.chats.spools import claim_and_die
from support.processes.nodes import PROJECT
from support.servers.redis_server import PrivateServer
from support.waiting import eventually
from support.web.following import following
from support.web.sse import SseEvent, SseParser

from chunkspool import Spool
from chunkspool.demo.ports import LOOPBACK, free_port, is_taken
from chunkspool.demo.process import Process

EVENTS = f"/chats/{CHAT}/events"
BLOCKS = re.compile(r"^```python\n(.+?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class RunningApp:
    """An example under uvicorn, and a client of it."""

    process: Process
    client: httpx.Client

    def status(self, path: str, **options: Any) -> int:
        """Return the status of a GET that is answered without a stream."""
        return self.client.get(path, **options).status_code

    def read_events(self, path: str, limit: int | None = None, **options: Any) -> list[SseEvent]:
        """Follow a stream to its end, or for so many events; then hang up."""
        with self.client.stream("GET", path, **options) as response:
            assert response.status_code == 200, response.read()
            assert response.headers["content-type"].startswith("text/event-stream")
            return take(response, limit)


def take(response: httpx.Response, limit: int | None = None) -> list[SseEvent]:
    """Return the events of a stream: all, or so many."""
    reader, found = SseParser(), list[SseEvent]()
    for piece in response.iter_raw():
        found += reader.events(piece)
        if limit is not None and len(found) >= limit:
            return found[:limit]
    return found


def seqs(events: list[SseEvent]) -> list[int]:
    """Return the seqs of events, with which their ids begin."""
    return [int(event.id.partition(".")[0]) for event in events]


def types(events: list[SseEvent]) -> list[str]:
    """Return the types of chat events."""
    return [json.loads(event.data)["type"] for event in events]


StartApp = Callable[..., RunningApp]


@pytest.fixture
def start_app(tmp_path: Path) -> Iterator[StartApp]:
    """Give a function that runs an example under uvicorn, by the command in its docstring."""
    started: list[RunningApp] = []

    def start(name: str, redis_url: str) -> RunningApp:
        port = free_port()
        command = (sys.executable, "-m", "uvicorn", f"examples.{name}:app", "--host", LOOPBACK, "--port", str(port))
        grace = ("--timeout-graceful-shutdown", "5") if name == "fastapi_app" else ()
        # The tests count seqs.
        environment = {**os.environ, "CHUNKSPOOL_REDIS_URL": redis_url, "CHUNKSPOOL_KEEP_MESSAGES": "false"}
        process = Process.start(f"web-{port}", (*command, *grace), tmp_path, env=environment, cwd=PROJECT)
        process.wait_until(lambda: is_taken(port), 30)
        client = httpx.Client(base_url=f"http://{LOOPBACK}:{port}", timeout=20)
        started.append(RunningApp(process, client))
        return started[-1]

    yield start
    for app in started:
        app.client.close()
        app.process.terminate()


@pytest.fixture
def app(redis_url: str, start_app: StartApp) -> RunningApp:
    """Run the routes written by hand. There is no worker: tests write the chats themselves."""
    return start_app("fastapi_app", redis_url)


@pytest.fixture
def finished(app: RunningApp, spool: Spool) -> int:
    """Give the last seq of a chat in which nothing is active: queued, started, one word, completed."""
    made = app.client.post(f"/chats/{CHAT}", params={"prompt": "x"}).json()
    with spool.produce(CHAT, made["generation"]) as out:
        out.text("hello")
    return spool.status(CHAT).last


@pytest.mark.parametrize("resume", ["query", "header"])
def test_both_halves_make_the_whole(
    redis_url: str, start_app: StartApp, start_worker: StartWorker, resume: str
) -> None:
    """A reader that leaves after three events and resumes, by `after` or by Last-Event-ID, has missed nothing."""
    start_worker("threads", 2)
    app = start_app("fastapi_app", redis_url)
    asked = app.client.post(f"/chats/{CHAT}", params={"prompt": "Say many words, please, one after the other."})
    assert asked.status_code == 202
    first = app.read_events(EVENTS, limit=3)
    cut = first[-1].id
    if resume == "query":
        second = app.read_events(f"{EVENTS}?after={cut}")
    else:
        second = app.read_events(EVENTS, headers={"Last-Event-ID": cut})
    whole = app.read_events(EVENTS)
    assert first + second == whole
    assert seqs(whole) == list(range(1, len(whole) + 1))
    assert types(whole)[-1] == "generation.completed"
    assert json.loads(whole[0].data)["generation"] == asked.json()["generation"]


def test_asking_names_the_generation(app: RunningApp) -> None:
    """The reply is `{generation, chat_id, after}`: all that a client needs to follow its answer."""
    made = app.client.post(f"/chats/{CHAT}", params={"prompt": "x"}).json()
    assert set(made) == {"generation", "chat_id", "after"}
    assert (made["chat_id"], made["after"]) == (CHAT, 0)


@pytest.mark.usefixtures("finished")
def test_stop_is_accepted(app: RunningApp) -> None:
    """A stop after the end is no error."""
    assert app.client.post(f"/chats/{CHAT}/stop").status_code == 202


def test_a_chat_that_does_not_exist_is_a_404(app: RunningApp, finished: int, spool: Spool) -> None:
    """One that never was, and one that was erased: before any stream begins, whatever the cursor is."""
    assert finished == 4
    assert app.status(EVENTS) == 200
    spool.erase(CHAT)
    for chat in ("never", CHAT):
        for query in ("", "?after=0", "?after=4", "?after=900"):
            reply = app.client.get(f"/chats/{chat}/events{query}")
            assert (reply.status_code, reply.json()["status"]) == (404, 404)
            assert chat in reply.json()["detail"]
        assert app.client.post(f"/chats/{chat}/stop").status_code == 404


@pytest.mark.parametrize("active", [False, True])
def test_a_cursor_that_cannot_be_is_a_400(app: RunningApp, finished: int, spool: Spool, active: bool) -> None:
    """Negative, no number, too large for one, or ahead of the chat; by `after` and by header, active or not."""
    if active:
        spool.enqueue(CHAT, "y")
        finished += 1
    wrong = ["-1", "+1", "abc", "", "1.5", "1e3", "0x1", "1_0", "None", "\u0663", "\u00b2", "\uff11"]
    wrong += [str(2**53 + 1), str(2**63), "9" * 16, "9" * 17, "9" * 400, "9" * 5000, str(finished + 1)]
    for cursor in wrong:
        assert app.status(EVENTS, params={"after": cursor}) == 400, cursor
        assert app.status(EVENTS, headers={b"Last-Event-ID": cursor.encode()}) == 400, cursor
        # The header wins: a good one makes up for a bad `after`, and not the other way round.
        assert app.status(EVENTS, params={"after": "0"}, headers={b"Last-Event-ID": cursor.encode()}) == 400, cursor
        good = app.read_events(EVENTS, limit=1, params={"after": cursor}, headers={"Last-Event-ID": "1"})
        assert seqs(good) == [2], cursor


def test_a_cursor_that_has_expired_is_a_410(app: RunningApp, finished: int, client: Redis) -> None:
    """Where the log was trimmed, and where it has gone as a whole. A cursor at the border still gets the rest."""
    client.xtrim(KEYS.log, minid="3-0", approximate=False)
    assert [app.status(f"{EVENTS}?after={cursor}") for cursor in (0, 1)] == [410, 410]
    assert seqs(app.read_events(f"{EVENTS}?after=2")) == [3, 4]
    client.delete(KEYS.log)
    assert [app.status(f"{EVENTS}?after={cursor}") for cursor in (0, 3, finished)] == [410, 410, 204]


def test_a_busy_chat_is_a_409(app: RunningApp) -> None:
    """The first question is still being answered. It may be stopped, and then the next one may be asked."""
    codes = [app.client.post(f"/chats/{CHAT}", params={"prompt": "x"}).status_code for _ in range(2)]
    assert codes == [202, 409]
    assert app.client.post(f"/chats/{CHAT}/stop").status_code == 202
    assert app.client.post(f"/chats/{CHAT}", params={"prompt": "x"}).status_code == 202


def test_bad_ids_and_prompts_are_a_422(app: RunningApp) -> None:
    """In every route; and nothing was made by them."""
    for chat in (".c", "a b", "a%00b", "c" * 129, "\u00fc", "{c}"):
        assert app.client.post(f"/chats/{chat}", params={"prompt": "x"}).status_code == 422, chat
        assert app.client.post(f"/chats/{chat}/stop").status_code == 422, chat
        assert app.status(f"/chats/{chat}/events") == 422, chat
    for prompt in ("", "  \n"):
        assert app.client.post(f"/chats/{CHAT}", params={"prompt": prompt}).status_code == 422, prompt
    assert app.client.post(f"/chats/{CHAT}").status_code == 422
    assert app.status(EVENTS) == 404


def test_an_unreachable_redis_is_a_503(start_app: StartApp, durable_server: PrivateServer) -> None:
    """In every route, before any stream begins, and without a word about where Redis is; then it is as before."""
    app = start_app("fastapi_app", durable_server.url)
    assert app.client.post(f"/chats/{CHAT}", params={"prompt": "x"}).status_code == 202
    durable_server.kill()
    replies = [
        app.client.get(EVENTS),
        app.client.post(f"/chats/{CHAT}/stop"),
        app.client.post(f"/chats/{CHAT}", params={"prompt": "x"}),
    ]
    for reply in replies:
        assert (reply.status_code, reply.json()) == (503, {"status": 503, "detail": "Service Unavailable"})
    durable_server.start()
    assert types(app.read_events(EVENTS, limit=1)) == ["generation.queued"]


def test_cursor_0_is_the_beginning(app: RunningApp, finished: int) -> None:
    """Also as `Last-Event-ID: 0`, which wins over `after` as every other header does."""
    every = list(range(1, finished + 1))
    assert seqs(app.read_events(EVENTS)) == every
    assert seqs(app.read_events(f"{EVENTS}?after=0")) == every
    assert seqs(app.read_events(EVENTS, headers={"Last-Event-ID": "0"})) == every
    assert seqs(app.read_events(f"{EVENTS}?after=3", headers={"Last-Event-ID": "0"})) == every
    assert seqs(app.read_events(f"{EVENTS}?after=1", headers={"Last-Event-ID": "3"})) == [4]


def test_an_event_source_is_sent_away_from_an_idle_chat(app: RunningApp, finished: int, spool: Spool) -> None:
    """It reconnects after the answer's end with the last id that it has: 204, until something is there again."""
    last = {"Last-Event-ID": app.read_events(EVENTS)[-1].id}
    reply = app.client.get(EVENTS, headers=last)
    assert (reply.status_code, reply.content) == (204, b"")
    asked = spool.enqueue(CHAT, "y")
    # Something is active now: the stream stays open, however long it is silent.
    with spool.produce(CHAT, asked.generation_id) as out, app.client.stream("GET", EVENTS, headers=last) as response:
        assert response.status_code == 200
        assert seqs(take(response, limit=2)) == [finished + 1, finished + 2]
        silent = {"Last-Event-ID": str(finished + 2)}
        with app.client.stream("GET", EVENTS, headers=silent) as waiting:
            assert waiting.status_code == 200
            out.text("z")
            assert types(take(waiting, limit=1)) == ["text.delta"]
    assert app.status(EVENTS, headers={"Last-Event-ID": str(spool.status(CHAT).last)}) == 204


@pytest.mark.parametrize("talks", [False, True])
def test_a_client_that_hangs_up_frees_its_reader(app: RunningApp, spool: Spool, client: Redis, talks: bool) -> None:
    """The chat's channel is given up soon after the last client has gone, while the model is silent and while not."""
    asked = spool.enqueue(CHAT, "x")

    def listening() -> int:
        return int(client.pubsub_numsub(KEYS.live)[0][1])

    with spool.produce(CHAT, asked.generation_id) as out:
        with app.client.stream("GET", EVENTS) as first, app.client.stream("GET", EVENTS) as second:
            assert (seqs(take(first, limit=2)), second.status_code) == ([1, 2], 200)
            eventually(lambda: listening() == 1)
            for _ in range(80 if talks else 0):  # 10 MB: more than sockets hold, and nobody reads it
                out.text("many words, " * 10_000)
        eventually(lambda: listening() == 0)
    assert types(app.read_events(EVENTS))[-1] == "generation.completed"


def test_what_goes_wrong_later_ends_the_stream(app: RunningApp, spool: Spool, client: Redis) -> None:
    """A chat that is erased while it is followed: the last event is a problem, and the reconnect gets the 404."""
    asked = spool.enqueue(CHAT, "x")
    claim_and_die(client, asked.generation_id, 60)
    with app.client.stream("GET", EVENTS) as response:
        pieces = response.iter_raw()
        assert b"generation.queued" in next(pieces)
        spool.erase(CHAT)
        last = list(SseParser().events(b"".join(pieces)))[-1]
    assert (last.name, json.loads(last.data)["status"]) == ("problem", 404)
    assert app.status(EVENTS, headers={"Last-Event-ID": "2"}) == 404


def test_an_unreadable_event_does_not_hold_a_client(app: RunningApp, finished: int, client: Redis) -> None:
    """Another program wrote into the log: a problem with that event's id, so that the reconnect gets the rest."""
    bad = {"t": "1", "e": "hello"}
    good: Mapping[Any, Any] = {"t": "1", "e": '{"type":"data","generation":"g","name":"n","value":1}'}
    for seq, fields in ((finished + 1, bad), (finished + 2, good)):
        client.xadd(KEYS.log, dict(fields), id=f"{seq}-0")
        client.incr(KEYS.seq)
    found = app.read_events(EVENTS)
    assert (seqs(found), found[-1].name) == (list(range(1, finished + 2)), "problem")
    assert json.loads(found[-1].data) == {"status": 500, "detail": "Internal Server Error"}
    assert types(app.read_events(EVENTS, headers={"Last-Event-ID": found[-1].id})) == ["data"]


def test_the_app_ends_though_a_client_follows(app: RunningApp, spool: Spool, client: Redis) -> None:
    """SIGTERM while a silent stream is open: within the grace of the command line, and in order."""
    asked = spool.enqueue(CHAT, "x")
    claim_and_die(client, asked.generation_id, 60)
    with following(app.client, EVENTS):
        app.process.send(signal.SIGTERM)
        eventually(lambda: not app.process.alive, timeout=12)
    assert "Application shutdown complete" in app.process.read_log_tail()


def test_the_smallest_app(redis_url: str, start_app: StartApp, start_worker: StartWorker) -> None:
    """What the README prints is what its commands bring, ids aside: both halves of the answer, no gap, no duplicate."""
    start_worker("threads", 2)
    app = start_app("quickstart", redis_url)
    readme = (PROJECT / "README.md").read_text()
    ((path, body),) = re.findall(r"curl -X POST localhost:8000(\S+).+?-d '(.+?)'\n", readme, re.DOTALL)
    made = app.client.post(path, json=json.loads(body)).json()
    assert made["after"] == 0
    events = made["links"]["events"]
    whole = app.read_events(events)
    shown = re.findall(r"^id: \d+\.\w+…\nevent: .+\ndata: .+$", readme, re.MULTILINE)
    real = [f"id: {event.id}\nevent: {event.name}\ndata: {event.data}" for event in whole]
    assert [without_ids(block) for block in shown] == [without_ids(block) for block in real]
    (cut,) = re.findall(r"curl -N -H 'Last-Event-ID: (\d+)'", readme)
    assert app.read_events(events, headers={"Last-Event-ID": cut}) == whole[int(cut) :]
    assert app.status(events, headers={"Last-Event-ID": whole[-1].id}) == 204
    assert app.status("/") == 200


def without_ids(text: str) -> str:
    """Return events without the ids of generations and of the log, which the README shortens."""
    return re.sub(r"^(id: \d+)\.\S+", r"\1", re.sub(r'"generation":"[^"]+"', '"generation":"…"', text))


def test_the_readme_shows_the_examples() -> None:
    """All Python in the README stands in one of the examples, which are tested; the smallest app stands there whole."""
    examples = {path.name: path.read_text() for path in (PROJECT / "examples").glob("*.py")}
    blocks = BLOCKS.findall((PROJECT / "README.md").read_text())
    for block in blocks:
        assert any(block in example for example in examples.values()), block
    assert examples["quickstart.py"].partition('"""\n\n')[2] == blocks[0]
    shown = {name for name, example in examples.items() if any(block in example for block in blocks)}
    assert shown >= {"quickstart.py", "fastapi_app.py", "own_task.py"}
