"""The routes of a chat: ask, follow, stop, look, erase."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from starlette.exceptions import HTTPException

from chunkspool import AsyncSpool
from chunkspool.ids import ID_PATTERN
from chunkspool.results import Snapshot
from chunkspool.web.dependencies import ANYWHERE, After, ChatId, Context, LastEventId, cursor_of, may, problems
from chunkspool.web.dialects.native import Native
from chunkspool.web.schemas import AskBody, AskResponse, Links, StopBody, StopResponse
from chunkspool.web.streaming.event_stream import Followed

router = APIRouter(prefix="/v1/chats/{chat_id}")

IdempotencyKey = Annotated[
    str | None, Header(description="the same as `request_id` in the body", pattern=f'^"?{ID_PATTERN}"?$')
]
EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"description": "`id:` seq, `event:` type, `data:` the event", "content": {"text/event-stream": {}}},
    204: {"description": "nothing is active and there is nothing after the cursor: do not come back for now"},
}


@router.post("/generations", status_code=202, responses=problems(409, *ANYWHERE))
async def ask(
    request: Request,
    chat_id: ChatId,
    body: AskBody,
    context: Context,
    spool: Annotated[AsyncSpool, may("ask")],
    idempotency_key: IdempotencyKey = None,
) -> AskResponse:
    """Hand a generation to a worker."""
    async with context.gate.enter():
        made = await spool.enqueue(
            chat_id,
            body.prompt,
            messages=body.messages,
            model=body.model,
            params=body.params,
            request_id=_request_id(body.request_id, idempotency_key),
            on_active=body.on_active,
        )
    chat = f"{request.scope.get('root_path', '')}/v1/chats/{chat_id}"
    links = Links(events=f"{chat}/events?after={made.after}", stop=f"{chat}/stop", chat=chat)
    return AskResponse(generation_id=made.generation_id, chat_id=chat_id, after=made.after, links=links)


@router.get("/events", response_class=Response, responses={**EVENTS, **problems(404, 410, *ANYWHERE)})
async def follow(
    chat_id: ChatId,
    context: Context,
    spool: Annotated[AsyncSpool, may("read")],
    after: After = None,
    last_event_id: LastEventId = None,
    follow: Annotated[bool, Query(description="go on when the chat is idle")] = False,  # noqa: FBT002 - a query parameter
    times: Annotated[bool, Query(description="a comment before each event says when it was written, Unix ms")] = False,  # noqa: FBT002 - the same
) -> Response:
    """Replay what comes after the cursor, then follow live, as server-sent events."""
    cursor = cursor_of(after, last_event_id)
    async with context.gate.enter():
        # What is wrong with the chat or the cursor is said now, as long as a status can be.
        waiting = await spool.read(chat_id, cursor, limit=1)
        if not waiting and not follow and not (await spool.status(chat_id)).active:
            return Response(status_code=204)
    until = "forever" if follow else "idle"
    return context.stream(Followed(spool, chat_id, cursor, until), Native(times=times))


@router.post("/stop", status_code=202, responses=problems(404, *ANYWHERE))
async def stop(
    chat_id: ChatId, context: Context, spool: Annotated[AsyncSpool, may("stop")], body: StopBody | None = None
) -> StopResponse:
    """Stop a generation, or all that are active. Once more is no error."""
    wanted = body or StopBody()
    async with context.gate.enter():
        return StopResponse(stops=await spool.stop(chat_id, wanted.generation_id, reason=wanted.reason))


@router.get("", responses=problems(404, *ANYWHERE))
async def look(
    chat_id: ChatId, context: Context, spool: Annotated[AsyncSpool, may("read")], response: Response
) -> Snapshot:
    """Return the chat's answers and the seq they stand at; follow the events after it."""
    response.headers["cache-control"] = "no-store"
    async with context.gate.enter():
        return await spool.snapshot(chat_id)


@router.delete("", status_code=204, responses=problems(*ANYWHERE))
async def erase(chat_id: ChatId, context: Context, spool: Annotated[AsyncSpool, may("erase")]) -> None:
    """Remove every byte of the chat; once more is no error."""
    async with context.gate.enter():
        await spool.erase(chat_id)


def _request_id(in_body: str | None, in_header: str | None) -> str | None:
    # The header's draft wants quotes around it, and half of the world leaves them out.
    key = None if in_header is None else in_header.strip().removeprefix('"').removesuffix('"')
    if in_body is not None and key is not None and in_body != key:
        raise HTTPException(400, "Idempotency-Key and request_id are two names of one thing, and they differ")
    return in_body if key is None else key
