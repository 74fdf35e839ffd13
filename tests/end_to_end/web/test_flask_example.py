"""The Flask example under real gunicorn, on threads and on gevent, with a real worker of its own Celery app."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from redis import Redis
from support.chats.spools import claim_and_die
from support.waiting import eventually
from support.web.app_server import AppServer
from support.web.flask_chat import SERVERS, THREADS, FlaskProject, log_in
from support.web.following import following
from support.web.sse import SseEvent, SseParser

from chunkspool import Spool
from chunkspool.demo.process import Process
from chunkspool.store.keys import ChatKeys

CHAT = "ann.chat"
EVENTS = f"/chats/{CHAT}/events"
KEYS = ChatKeys("default", CHAT)

# One server is enough here: readers are tested on both elsewhere.
pytestmark = [pytest.mark.parametrize("redis_server", ["redis-server"], indirect=True), pytest.mark.timeout(180)]

Login = Callable[[str], httpx.Client]


@pytest.fixture
def project(redis_url: str, tmp_path: Path) -> FlaskProject:
    """Give the example."""
    return FlaskProject.make(tmp_path, redis_url, CHUNKSPOOL_HEARTBEAT="0.2")


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, project: FlaskProject) -> Iterator[AppServer]:
    """Run the web server."""
    server = project.start_server(request.param)
    yield server
    server.process.terminate()


@pytest.fixture
def login(server: AppServer) -> Iterator[Login]:
    """Give a function that logs somebody in."""
    with ExitStack() as stack:

        def open_as(name: str) -> httpx.Client:
            client = stack.enter_context(server.open_client())
            log_in(client, name)
            return client

        yield open_as


@pytest.fixture
def ann(login: Login) -> httpx.Client:
    """Give the client of the chat's owner."""
    return login("ann")


@pytest.fixture
def worker(project: FlaskProject) -> Iterator[Process]:
    """Run a worker."""
    process = project.start_worker()
    yield process
    process.terminate()


def read_events(client: httpx.Client, limit: int | None = None, **options: object) -> list[SseEvent]:
    """Follow the chat to its end, or for so many events; then hang up."""
    with client.stream("GET", EVENTS, **options) as response:  # type: ignore[arg-type]
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        parser, found = SseParser(), list[SseEvent]()
        for piece in response.iter_raw():
            found += parser.events(piece)
            if limit is not None and len(found) >= limit:
                return found[:limit]
    return found


def types(events: list[SseEvent]) -> list[str]:
    """Return the types of chat events."""
    return [json.loads(event.data)["type"] for event in events]


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("resume", ["query", "header"])
def test_both_halves_make_the_whole(ann: httpx.Client, resume: str) -> None:
    """A reader that leaves and resumes, by `after` or Last-Event-ID, has no gap and no duplicate; then comes a 204."""
    asked = ann.post(f"/chats/{CHAT}", json={"prompt": "Say many words, please, one after the other."})
    assert (asked.status_code, asked.json()["after"]) == (202, 0)
    first = read_events(ann, limit=3)
    cut = first[-1].id
    if resume == "query":
        second = read_events(ann, params={"after": cut})
    else:
        second = read_events(ann, headers={"Last-Event-ID": cut})
    whole = read_events(ann)
    assert first + second == whole
    assert [int(event.id.partition(".")[0]) for event in whole] == list(range(1, len(whole) + 1))
    assert types(whole)[-1] == "generation.completed"
    assert ann.get(EVENTS, headers={"Last-Event-ID": whole[-1].id}).status_code == 204


@pytest.mark.usefixtures("worker")
def test_stop_ends_the_answer(ann: httpx.Client, spool: Spool) -> None:
    """While it is followed: the reader sees the ending, and the stream is over. The worker has heard of the stop."""
    asked = spool.enqueue(CHAT, "word " * 5000, params={"pace": 0.05})
    with ann.stream("GET", EVENTS) as response:
        pieces, parser = response.iter_raw(), SseParser()
        found = list(parser.events(next(pieces)))
        while "text.delta" not in types(found):
            found += parser.events(next(pieces))
        stopped = ann.post(f"/chats/{CHAT}/stop")
        assert (stopped.status_code, stopped.json()) == (202, {"stops": [asked.generation_id]})
        found += [event for piece in pieces for event in parser.events(piece)]
    assert types(found)[-1] == "generation.stopped"


def test_events_come_while_they_are_written(ann: httpx.Client, spool: Spool) -> None:
    """Each word is there before the next is written, also after heartbeats, for two readers of one process."""
    asked = ann.post(f"/chats/{CHAT}", json={"prompt": "x"}).json()
    with (
        spool.produce(CHAT, asked["generation"]) as out,
        ann.stream("GET", EVENTS) as one,
        ann.stream("GET", EVENTS) as two,
    ):
        readers = [(response.iter_raw(), SseParser()) for response in (one, two)]
        for word in ("one", "two", "three"):
            out.text(word)
            for pieces, parser in readers:
                said = ""
                while word not in said:
                    said += "".join(event.data for event in parser.events(next(pieces)))
            for pieces, _ in readers:
                assert any(piece == b":\n" for piece in pieces)


def test_others_may_not(ann: httpx.Client, login: Login, server: AppServer) -> None:
    """A stranger gets a 403 and who is not logged in a 401, in every route, as a problem; and nothing was done."""
    ann.post(f"/chats/{CHAT}", json={"prompt": "x"})
    with httpx.Client(base_url=server.url, timeout=20) as nobody:
        for client, status in ((login("an"), 403), (login("bob"), 403), (nobody, 401)):
            replies = [
                client.get(EVENTS),
                client.post(f"/chats/{CHAT}", json={"prompt": "x"}),
                client.post(f"/chats/{CHAT}/stop"),
            ]
            for reply in replies:
                assert (reply.status_code, reply.json()["status"]) == (status, status)
                assert reply.headers["content-type"] == "application/problem+json"
    assert types(read_events(ann, limit=1)) == ["generation.queued"]
    ann.post("/logout")
    assert ann.get(EVENTS).status_code == 401


def test_what_is_wrong_is_a_problem(ann: httpx.Client) -> None:
    """Before any stream begins: no such chat, a bad cursor, a busy chat, a bad body, and what Flask itself refuses."""
    assert ann.get(EVENTS).json()["type"] == "urn:chunkspool:problem:chat-not-found"
    assert ann.post(f"/chats/{CHAT}", json={"prompt": "x"}).status_code == 202
    busy = ann.post(f"/chats/{CHAT}", json={"prompt": "x"})
    assert (busy.status_code, busy.json()["type"]) == (409, "urn:chunkspool:problem:chat-busy")
    for cursor in ("-1", "abc", "", "1_0", "9", "\u0663", "9" * 400):
        reply = ann.get(EVENTS, params={"after": cursor})
        assert (reply.status_code, reply.json()["status"]) == (400, 400), cursor
    for body, status in (({}, 422), ([], 422), ({"prompt": 1}, 422), ({"prompt": ""}, 422)):
        assert ann.post("/chats/ann.b", json=body).status_code == status, body
    assert ann.post("/chats/ann.b", content=b"{").json()["status"] == 415
    assert ann.put(f"/chats/{CHAT}").json()["type"] == "urn:chunkspool:problem:method-not-allowed"
    assert ann.get("/nowhere").json()["type"] == "urn:chunkspool:problem:not-found"
    assert ann.post("/login", json={"name": "a.b"}).status_code == 422


def test_readers_that_hang_up_free_their_threads(ann: httpx.Client, client: Redis) -> None:
    """The model is silent; more readers come and go than the server has threads. Redis has no channel left, either."""
    asked = ann.post(f"/chats/{CHAT}", json={"prompt": "x"}).json()
    claim_and_die(client, asked["generation"], 60, KEYS)
    before = client.pubsub_channels()
    assert KEYS.live.encode() not in before
    for _ in range(3):
        with ExitStack() as stack:
            for _ in range(THREADS):
                stack.enter_context(following(ann, EVENTS))
            eventually(lambda: client.pubsub_numsub(KEYS.live)[0][1] == 1)
        eventually(lambda: client.pubsub_channels() == before)
    assert ann.post(f"/chats/{CHAT}/stop").status_code == 202


def test_the_server_ends_though_a_client_follows(ann: httpx.Client, server: AppServer, client: Redis) -> None:
    """SIGTERM while a silent stream is open: within the grace of the command line, and the stream ends."""
    asked = ann.post(f"/chats/{CHAT}", json={"prompt": "x"}).json()
    claim_and_die(client, asked["generation"], 60, KEYS)
    with following(ann, EVENTS):
        server.process.send(signal.SIGTERM)
        eventually(lambda: not server.process.alive, timeout=12)
    eventually(lambda: KEYS.live.encode() not in client.pubsub_channels())
