"""The Django example under real uvicorn (ASGI) and gunicorn (WSGI), with a real worker of its own Celery app."""

from __future__ import annotations

import json
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import psutil
import pytest
from redis import Redis
from support.chats.spools import claim_and_die
from support.servers.redis_server import PrivateServer
from support.waiting import eventually
from support.web.app_server import AppServer
from support.web.django_chat import GRACE, PASSWORD, SERVERS, THREADS, Project, log_in, make_chat
from support.web.following import following
from support.web.sse import SseEvent, SseParser

from chunkspool import Spool
from chunkspool.demo.process import Process
from chunkspool.store.keys import ChatKeys

QUESTION = {"id": "question-1", "text": "Say many words, please, one after the other."}
HEARTBEAT = 0.2

# One server is enough here: readers are tested on both elsewhere.
pytestmark = [pytest.mark.parametrize("redis_server", ["redis-server"], indirect=True), pytest.mark.timeout(180)]

LogIn = Callable[[str], httpx.Client]


@pytest.fixture
def project(redis_url: str, django_database: Path, tmp_path: Path) -> Project:
    """Give the project with a database."""
    return Project.make(tmp_path, django_database, redis_url, CHUNKSPOOL_HEARTBEAT=str(HEARTBEAT))


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, project: Project) -> Iterator[AppServer]:
    """Run the example by the commands in its docstring, but for the number of streams."""
    running = project.start_server(request.param)
    yield running
    running.process.terminate()


@pytest.fixture
def worker(project: Project) -> Iterator[Process]:
    """Run a worker."""
    process = project.start_worker()
    yield process
    process.terminate()


@pytest.fixture
def clients(server: AppServer) -> Iterator[LogIn]:
    """Give a function that logs somebody in."""
    with ExitStack() as stack:

        def log_somebody_in(name: str) -> httpx.Client:
            client = stack.enter_context(server.open_client())
            log_in(client, name)
            return client

        yield log_somebody_in


@pytest.fixture
def ann(clients: LogIn) -> httpx.Client:
    """Give the client of the chat's owner."""
    return clients("ann")


@pytest.fixture
def chat(ann: httpx.Client) -> str:
    """Give the id of a chat of ann's."""
    return make_chat(ann)


def ask(client: httpx.Client, chat: str) -> httpx.Response:
    """Ask, with the same id each time."""
    return client.post(f"/chats/{chat}", json=QUESTION)


def read_events(client: httpx.Client, chat: str, limit: int | None = None, **options: object) -> list[SseEvent]:
    """Follow the chat to its end, or for so many events; then hang up."""
    with client.stream("GET", f"/chats/{chat}/events", **options) as response:  # type: ignore[arg-type]
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


def begin_silent_answer(ann: httpx.Client, chat: str, redis: Redis) -> ChatKeys:
    """Ask, and let a worker begin the answer that says nothing for a minute."""
    assert ask(ann, chat).status_code == 202
    keys = ChatKeys("default", chat)
    (generation,) = redis.zrange(keys.gens, 0, -1)
    claim_and_die(redis, generation.decode(), 60, keys)
    return keys


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("resume", ["query", "header"])
def test_both_halves_make_the_whole(ann: httpx.Client, chat: str, resume: str) -> None:
    """A reader that leaves and resumes, by `after` or Last-Event-ID, has no gap and no duplicate; then comes a 204."""
    assert ask(ann, chat).status_code == 202
    first = read_events(ann, chat, limit=3)
    cut = first[-1].id
    options = {"params": {"after": cut}} if resume == "query" else {"headers": {"Last-Event-ID": cut}}
    second = read_events(ann, chat, **options)
    whole = read_events(ann, chat)
    assert first + second == whole
    assert [event.seq for event in whole] == list(range(1, len(whole) + 1))
    assert types(whole)[-1] == "generation.completed"
    assert ann.get(f"/chats/{chat}/events", headers={"Last-Event-ID": whole[-1].id}).status_code == 204


@pytest.mark.usefixtures("worker")
def test_stop_ends_the_answer(ann: httpx.Client, chat: str, spool: Spool) -> None:
    """While it is followed: the reader sees the ending, and the stream is over. The worker has heard of the stop."""
    asked = spool.enqueue(chat, "word " * 5000, params={"pace": 0.05})
    with ann.stream("GET", f"/chats/{chat}/events") as response:
        pieces, parser = response.iter_raw(), SseParser()
        found = list(parser.events(next(pieces)))
        while "text.delta" not in types(found):
            found += parser.events(next(pieces))
        stopped = ann.post(f"/chats/{chat}/stop")
        assert (stopped.status_code, stopped.json()) == (202, {"stops": [asked.generation_id]})
        found += [event for piece in pieces for event in parser.events(piece)]
    assert types(found)[-1] == "generation.stopped"


def test_events_come_while_they_are_written(ann: httpx.Client, chat: str, spool: Spool) -> None:
    """Each word is there before the next is written, also after heartbeats, for two readers of one process."""
    assert ask(ann, chat).status_code == 202
    (generation,) = spool.status(chat).active
    url = f"/chats/{chat}/events"
    with spool.produce(chat, generation) as out, ann.stream("GET", url) as one, ann.stream("GET", url) as two:
        readers = [(response.iter_raw(), SseParser()) for response in (one, two)]
        for word in ("one", "two", "three"):
            out.text(word)
            for pieces, parser in readers:
                said = ""
                while word not in said:
                    said += "".join(event.data for event in parser.events(next(pieces)))
            for pieces, parser in readers:
                beats = len(parser.comments)
                while len(parser.comments) == beats:
                    assert not list(parser.events(next(pieces)))


def test_others_may_not(ann: httpx.Client, chat: str, clients: LogIn, server: AppServer) -> None:
    """Who is not logged in gets a 401, a stranger the 404 of a chat that does not exist, in every route."""
    ask(ann, chat)
    message = {"id": "m", "role": "user", "parts": [{"type": "text", "text": "x"}]}

    def reach(client: httpx.Client, chat_id: str) -> list[httpx.Response]:
        return [
            ask(client, chat_id),
            client.get(f"/chats/{chat_id}/events"),
            client.post(f"/chats/{chat_id}/stop"),
            client.post("/api/chat", json={"id": chat_id, "messages": [message]}),
            client.get(f"/api/chat/{chat_id}/stream"),
            client.get(f"/api/chat/{chat_id}/messages"),
            client.post(f"/api/chat/{chat_id}/stop"),
        ]

    with server.open_client() as nobody:
        nobody.get("/accounts/login/")
        nobody.headers["X-CSRFToken"] = nobody.cookies["csrftoken"]
        assert {(reply.status_code, reply.headers["content-type"]) for reply in reach(nobody, chat)} == {
            (401, "application/problem+json")
        }
        assert nobody.get("/chats").status_code == 401
    ben = clients("ben")
    for theirs, nobodys in zip(reach(ben, chat), reach(ben, "nobodys"), strict=True):
        assert (theirs.status_code, theirs.content) == (404, nobodys.content)
        assert {*theirs.headers} == {*nobodys.headers}
    assert ben.get("/chats").json() == {"chats": []}
    assert types(read_events(ann, chat, limit=1)) == ["generation.queued"]


def test_posts_need_the_token_of_the_session(ann: httpx.Client, chat: str, project: Project, spool: Spool) -> None:
    """A post without a CSRF token, or with a wrong one, or from another origin is a 403 and does nothing."""
    token = ann.headers.pop("X-CSRFToken")
    message = {"id": "m", "role": "user", "parts": [{"type": "text", "text": "x"}]}
    for wrong in ({}, {"X-CSRFToken": "x" * 32}, {"X-CSRFToken": token, "Origin": "http://evil.example"}):
        ann.headers.update(wrong)
        replies = [
            ann.post("/chats"),
            ask(ann, chat),
            ann.post(f"/chats/{chat}/stop"),
            ann.post("/api/chat", json={"id": chat, "messages": [message]}),
            ann.post(f"/api/chat/{chat}/stop"),
            ann.post("/accounts/logout/"),
        ]
        assert {reply.status_code for reply in replies} == {403}
        assert replies[0].json()["title"] == "Forbidden"
    del ann.headers["Origin"]
    assert project.count_messages(chat) == 0
    assert [one["id"] for one in ann.get("/chats").json()["chats"]] == [chat]
    assert ask(ann, chat).status_code == 202
    assert len(spool.status(chat).active) == 1
    assert ann.post("/accounts/logout/").status_code == 302
    assert ann.get(f"/chats/{chat}/events").status_code == 401


def test_a_wrong_password_logs_nobody_in(server: AppServer) -> None:
    """The form is shown again."""
    with server.open_client() as client:
        client.get("/accounts/login/")
        form = {"username": "ann", "password": f"{PASSWORD}!", "csrfmiddlewaretoken": client.cookies["csrftoken"]}
        assert client.post("/accounts/login/", data=form).status_code == 200
        assert "sessionid" not in client.cookies


@pytest.mark.parametrize("route", ["ask", "useChat"])
def test_a_commit_that_fails_leaves_nothing(
    ann: httpx.Client, chat: str, project: Project, client: Redis, route: str
) -> None:
    """No row, no generation and no key; the same request succeeds afterwards. SQLite waits five seconds for a lock."""
    keys = set(client.keys())
    message = {"id": QUESTION["id"], "role": "user", "parts": [{"type": "text", "text": QUESTION["text"]}]}

    def send() -> int:
        if route == "ask":
            return ask(ann, chat).status_code
        with ann.stream("POST", "/api/chat", json={"id": chat, "messages": [message]}) as reply:
            return reply.status_code

    with closing(sqlite3.connect(project.database, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM chats_message").fetchall()  # a reader lets others write, but not commit
        assert send() == 500
        reader.execute("COMMIT")
    assert project.count_messages(chat) == 0
    assert set(client.keys()) == keys
    assert send() in {200, 202}
    assert project.count_messages(chat) == 1
    assert client.exists(ChatKeys("default", chat).log)


@pytest.mark.usefixtures("worker")
def test_what_a_limit_refuses_can_be_asked_again(ann: httpx.Client, chat: str, project: Project, spool: Spool) -> None:
    """It is saved once, and answered once, however often it is sent."""
    spool.set_policy(owner_queued=0)
    refused = ask(ann, chat)
    assert (refused.status_code, refused.json()["type"]) == (429, "urn:chunkspool:problem:limit-exceeded")
    assert project.count_messages(chat) == 1
    spool.set_policy(owner_queued=None)
    assert [ask(ann, chat).status_code for _ in range(3)] == [202] * 3
    assert types(read_events(ann, chat)).count("generation.completed") == 1
    assert ask(ann, chat).status_code == 202
    assert types(read_events(ann, chat)).count("generation.queued") == 1
    assert project.count_messages(chat) == 1


@pytest.mark.usefixtures("redis_server")  # the module's parameter; this one is stopped
@pytest.mark.parametrize("durable_server", ["redis-server"], indirect=True)
@pytest.mark.parametrize("kind", SERVERS)
def test_what_redis_missed_can_be_asked_again(
    durable_server: PrivateServer, django_database: Path, tmp_path: Path, kind: str
) -> None:
    """While Redis is away a question is a 503, saved all the same; when it is back, the same request is answered."""
    project = Project.make(tmp_path / "project", django_database, durable_server.url)
    server = project.start_server(kind)
    try:
        with server.open_client() as ann:
            log_in(ann, "ann")
            chat = make_chat(ann)
            durable_server.stop()
            away = ask(ann, chat)
            assert (away.status_code, away.json()["type"]) == (503, "urn:chunkspool:problem:store-away")
            assert int(away.headers["retry-after"]) > 0
            assert project.count_messages(chat) == 1
            durable_server.start()
            eventually(lambda: ask(ann, chat).status_code == 202)
            assert types(read_events(ann, chat, limit=1)) == ["generation.queued"]
            assert project.count_messages(chat) == 1
    finally:
        server.process.terminate()


def test_what_is_wrong_is_a_problem(ann: httpx.Client, chat: str) -> None:
    """Before any stream begins: nothing asked yet, a bad cursor, a busy chat, a bad body."""
    events = f"/chats/{chat}/events"
    assert ann.get(events).json()["type"] == "urn:chunkspool:problem:chat-not-found"
    assert ask(ann, chat).status_code == 202
    busy = ann.post(f"/chats/{chat}", json={**QUESTION, "id": "question-2"})
    assert (busy.status_code, busy.json()["type"]) == (409, "urn:chunkspool:problem:chat-busy")
    for cursor in ("-1", "abc", "", "1_0", "9", "\u0663", "9" * 400):
        reply = ann.get(events, params={"after": cursor})
        assert (reply.status_code, reply.json()["status"]) == (400, 400), cursor
    for body in (b"", b"{", b"[]", b'{"id": "a"}', b'{"id": "a b", "text": "x"}', b'{"id": "a", "text": ""}'):
        assert ann.post(f"/chats/{chat}", content=body).status_code == 422, body
    assert ann.post("/api/chat", content=b"{}").status_code == 422
    assert ann.post("/api/chat", content=b"x" * 3_000_000).status_code == 413


def test_readers_that_hang_up_free_what_they_hold(ann: httpx.Client, chat: str, client: Redis) -> None:
    """The model is silent; more readers come and go than the server has threads. Redis has no channel left, either."""
    keys = begin_silent_answer(ann, chat, client)
    before = client.pubsub_channels()
    assert keys.live.encode() not in before
    for _ in range(3):
        with ExitStack() as stack:
            for _ in range(THREADS):
                stack.enter_context(following(ann, f"/chats/{chat}/events"))
            eventually(lambda: client.pubsub_numsub(keys.live)[0][1] == 1)
        eventually(lambda: client.pubsub_channels() == before)
    assert ann.post(f"/chats/{chat}/stop").status_code == 202


def test_streams_hold_no_database_connection(
    ann: httpx.Client, chat: str, client: Redis, project: Project, server: AppServer
) -> None:
    """A thousand streams of a project with PostgreSQL would else need a thousand connections there."""
    begin_silent_answer(ann, chat, client)
    main = psutil.Process(server.process.pid)

    def count_open() -> int:
        processes = [main, *main.children(recursive=True)]
        return sum(file.path == str(project.database) for process in processes for file in process.open_files())

    with ExitStack() as stack:
        for _ in range(THREADS):
            stack.enter_context(following(ann, f"/chats/{chat}/events"))
        eventually(lambda: count_open() == 0)


def test_the_server_ends_though_a_client_follows(
    ann: httpx.Client, chat: str, server: AppServer, client: Redis
) -> None:
    """SIGTERM while a silent stream is open: within the grace of the command line, and the stream ends."""
    keys = begin_silent_answer(ann, chat, client)
    with following(ann, f"/chats/{chat}/events"):
        server.process.send(signal.SIGTERM)
        eventually(lambda: not server.process.alive, timeout=GRACE + 7)
    eventually(lambda: keys.live.encode() not in client.pubsub_channels())
