"""A trace's context travels with its generation: through Redis, over attempts and sweeps, as the documented users."""

from __future__ import annotations

import pytest
from support.chats.spools import async_spool_for, spool_for
from support.servers.roles import RoleServer
from support.telemetry.recording_tracer import RecordedSpan, RecordingTracer

from chunkspool import AsyncSpool, Spool
from chunkspool.errors import ChatBusy, NotClaimed, ProviderError, Released
from chunkspool.store.keys import ChatKeys
from chunkspool.tracer import TraceContext

CHAT = "chat"
OUTSIDE = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "01", "vendor=1")


def children_of(tracer: RecordingTracer, span: RecordedSpan) -> list[str]:
    """Return the names of a span's children, in their order."""
    return [one.name for one in tracer.spans if one.parent == span.context]


def fail_once(worker: Spool, generation_id: str) -> None:
    """Begin an attempt that comes to no end."""
    with pytest.raises(Released), worker.produce(CHAT, generation_id) as out:
        out.text("half")
        raise Released("x", counts=True)


def test_from_the_request_to_the_second_attempt(server: RoleServer) -> None:
    """Each attempt is below the enqueue and links to the one before it; once it has ended, nothing of it is kept."""
    tracer = RecordingTracer()
    with spool_for(server.url) as web, spool_for(server.url_of("worker"), sweep_interval=0.001) as worker:
        web.tracer = worker.tracer = tracer
        with tracer.span("request", parent=OUTSIDE):
            asked = web.enqueue(CHAT, "secret")
        fail_once(worker, asked.generation_id)
        worker.sweep(queue_is_empty=True)
        fail_once(worker, asked.generation_id)
        with worker.for_tenant("default").produce(CHAT, asked.generation_id) as out:
            out.text("secret")
    attempts = [tracer.named(f"attempt {number}") for number in (1, 2, 3)]
    enqueue, wait = tracer.named("enqueue generation"), tracer.named("wait in queue")
    assert {span.context.trace_id for span in tracer.spans} == {OUTSIDE.trace_id}
    assert enqueue.context.state == attempts[2].context.state == OUTSIDE.state
    assert [span.parent for span in (*attempts, wait)] == [enqueue.context] * 4
    assert [span.links for span in attempts] == [(), (attempts[0].context,), (attempts[1].context,)]
    assert [children_of(tracer, span) for span in attempts] == [["claim", "end generation"]] * 3
    assert [span.attributes["chunkspool.state"] for span in attempts] == ["running", "running", "completed"]
    assert attempts[0].failed is None
    assert enqueue.attributes["chunkspool.generation"] == asked.generation_id
    assert wait.seconds is not None
    assert 0 <= wait.seconds < 60
    assert "secret" not in repr(tracer.spans)
    with server.client() as admin:
        kept = admin.hkeys(ChatKeys("default", CHAT).gen(asked.generation_id))
    assert not {b"trace", b"span"} & set(kept)
    assert server.refused() == []


async def test_asyncio_does_the_same(server: RoleServer) -> None:
    """Also where an answer fails, whose error is a code."""
    tracer = RecordingTracer()
    async with async_spool_for(server.url) as web, async_spool_for(server.url_of("worker")) as worker:
        web.tracer = worker.tracer = tracer
        with tracer.span("request"):
            asked = await web.enqueue(CHAT, "x")
        with pytest.raises(ProviderError):
            await fail(worker, asked.generation_id)
    request, attempt = tracer.named("request"), tracer.named("attempt 1")
    assert tracer.named("enqueue generation").parent == request.context
    assert (attempt.parent, attempt.failed) == (tracer.named("enqueue generation").context, "refused")
    assert (attempt.attributes["chunkspool.state"], children_of(tracer, attempt)) == (
        "failed",
        ["claim", "end generation"],
    )
    assert server.refused() == []


async def fail(worker: AsyncSpool, generation_id: str) -> None:
    """Let the model refuse."""
    async with worker.produce(CHAT, generation_id):
        raise ProviderError("refused", "secret", retryable=False)


@pytest.mark.parametrize(
    "stored", [b"", b"x" * 10_000, b"00-0-0-0 a=b", b"\xff\xfe", OUTSIDE.encode().upper().encode()]
)
def test_what_is_no_context_is_ignored(server: RoleServer, stored: bytes) -> None:
    """Whatever stands in Redis: the attempt begins a trace of its own."""
    tracer = RecordingTracer()
    with spool_for(server.url) as web, spool_for(server.url_of("worker")) as worker:
        asked = web.enqueue(CHAT, "x")
        with server.client() as admin:
            key = ChatKeys("default", CHAT).gen(asked.generation_id)
            assert admin.hget(key, "trace") is None, "nothing is stored where nothing is traced"
            admin.hset(key, mapping={"trace": stored, "span": stored})
        worker.tracer = tracer
        with worker.produce(CHAT, asked.generation_id):
            pass
    attempt = tracer.named("attempt 1")
    assert (attempt.parent, attempt.links) == (None, ())


def test_what_begins_nothing_says_so(server: RoleServer) -> None:
    """A busy chat is a span that failed, with the error's class; a second delivery is one without a number."""
    tracer = RecordingTracer()
    with spool_for(server.url) as web, spool_for(server.url_of("worker")) as worker:
        asked = web.enqueue(CHAT, "x")
        web.tracer = worker.tracer = tracer
        with pytest.raises(ChatBusy):
            web.enqueue(CHAT, "y")
        with worker.produce(CHAT, asked.generation_id):
            pass
        with pytest.raises(NotClaimed), worker.produce(CHAT, asked.generation_id):
            pass
    assert tracer.named("enqueue generation").failed == "chunkspool.errors.ChatBusy"
    assert tracer.named("attempt").failed is None
