"""The routes of a chat: ask, follow, stop, take a snapshot, fork, erase."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from starlette.exceptions import HTTPException
from starlette.responses import StreamingResponse

from chunkspool import AsyncSpool
from chunkspool.admission.asked import AskedGeneration
from chunkspool.effects import drive_async
from chunkspool.errors import ChatNotFound
from chunkspool.ids import ID_PATTERN
from chunkspool.reading.replay_report import report_failed_replay
from chunkspool.request import GenerationRequest
from chunkspool.results import Snapshot
from chunkspool.views.following import find_stream
from chunkspool.web.access import asker_of
from chunkspool.web.dependencies import (
    COMMON_PROBLEMS,
    After,
    Before,
    ChatId,
    Context,
    LastEventId,
    Limit,
    cursor_of,
    problem_responses,
    require,
)
from chunkspool.web.schemas import AskBody, AskResponse, ForkBody, ForkResponse, Links, StopBody, StopResponse
from chunkspool.web.snapshot_json import send_in_turns

router = APIRouter(prefix="/v1/chats/{chat_id}")

IdempotencyKey = Annotated[
    str | None, Header(description="the same as `request_id` in the body", pattern=f'^"?{ID_PATTERN}"?$')
]
STREAM_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "`id:` seq, `event:` type, `data:` the event", "content": {"text/event-stream": {}}},
    204: {"description": "nothing is active and nothing follows the cursor: do not reconnect"},
}


@router.post("/generations", status_code=202, responses=problem_responses(404, 409, 429, *COMMON_PROBLEMS))
async def ask(
    request: Request,
    chat_id: ChatId,
    body: AskBody,
    context: Context,
    spool: Annotated[AsyncSpool, require("ask")],
    idempotency_key: IdempotencyKey = None,
) -> AskResponse:
    """Enqueue a generation, as far as the app lets a user choose."""
    asked = AskedGeneration.of(
        GenerationRequest.checked(
            prompt=body.prompt, messages=body.messages, model=body.model, params=body.params, replaces=body.replaces
        ),
        on_active=body.on_active,
        request_id=_choose_request_id(body.request_id, idempotency_key),
        replaces=body.replaces,
        edits=body.replaces is not None and body.prompt is not None,
        # Nobody edits a question for a model that does not know what it is about.
        history=True if body.history is None and body.replaces and body.prompt is not None else body.history,
    )
    generation = await context.enqueue(request, spool, chat_id, asked)
    links = _links(request, chat_id, generation.after)
    return AskResponse(generation_id=generation.generation_id, chat_id=chat_id, after=generation.after, links=links)


@router.get(
    "/events", response_class=Response, responses={**STREAM_RESPONSES, **problem_responses(404, 410, *COMMON_PROBLEMS)}
)
async def follow(
    chat_id: ChatId,
    context: Context,
    spool: Annotated[AsyncSpool, require("read")],
    after: After = None,
    last_event_id: LastEventId = None,
    follow: Annotated[bool, Query(description="keep the stream open while the chat is idle")] = False,  # noqa: FBT002 - a query parameter
    times: Annotated[bool, Query(description="put each event's time (Unix ms) in a comment before it")] = False,  # noqa: FBT002 - the same
) -> Response:
    """Replay the events after the cursor, then follow live, as server-sent events."""
    steps = find_stream(chat_id, cursor_of(after, last_event_id), waits=follow, times=times)
    async with context.gate.enter():
        with report_failed_replay(spool.observer):
            stream = await drive_async(steps, lambda call: call.make(spool))
    return Response(status_code=204) if stream is None else context.respond_with_stream(spool, stream)


@router.post("/stop", status_code=202, responses=problem_responses(404, *COMMON_PROBLEMS))
async def stop(
    chat_id: ChatId, context: Context, spool: Annotated[AsyncSpool, require("stop")], body: StopBody | None = None
) -> StopResponse:
    """Stop one generation, or all that are active. Repeating it is not an error."""
    wanted = body or StopBody()
    async with context.gate.enter():
        return StopResponse(stops=await spool.stop(chat_id, wanted.generation_id, reason=wanted.reason))


@router.get(
    "",
    response_model=Snapshot,
    responses={204: {"description": "with `missing_ok`: no chat"}, **problem_responses(404, *COMMON_PROBLEMS)},
)
async def get_snapshot(
    chat_id: ChatId,
    context: Context,
    spool: Annotated[AsyncSpool, require("read")],
    before: Before = None,
    limit: Limit = None,
    missing_ok: Annotated[bool, Query(description="answer 204 where there is no chat, not 404")] = False,  # noqa: FBT002 - a query parameter
) -> Response:
    """Return the chat's answers and the seq they include; follow the events after it.

    With `limit`, only the newest; `before` of the reply then leads to those in front of them.
    """
    headers = {"cache-control": "no-store"}
    try:
        async with context.gate.enter_to_read(spool.settings.log.tenant, chat_id):
            found = await spool.snapshot(chat_id, before=before, limit=limit, within=context.gate.reading_seconds)
    except ChatNotFound:
        if not missing_ok:
            raise
        return Response(status_code=204, headers=headers)
    # Not by FastAPI, which would check the answers again and copy them twice: there may be many megabytes.
    return StreamingResponse(send_in_turns(found), headers=headers, media_type="application/json")


@router.post("/fork", status_code=201, responses=problem_responses(404, 409, 410, 429, *COMMON_PROBLEMS))
async def fork(
    request: Request, chat_id: ChatId, body: ForkBody, context: Context, spool: Annotated[AsyncSpool, require("read")]
) -> ForkResponse:
    """Make another chat of the beginning of this one. The sender has to be allowed to ask in that one, too."""
    await context.spool_for(request, body.to, "ask")
    async with context.gate.enter_to_read(spool.settings.log.tenant, chat_id):
        made = await spool.fork(chat_id, body.at, to=body.to, owner=asker_of(request.scope))
    return ForkResponse(chat_id=made.chat_id, seq=made.seq, cursor=made.cursor, links=_links(request, body.to, 0))


@router.delete("", status_code=204, responses=problem_responses(*COMMON_PROBLEMS))
async def erase(chat_id: ChatId, context: Context, spool: Annotated[AsyncSpool, require("erase")]) -> None:
    """Remove every byte of the chat. Repeating it is not an error."""
    async with context.gate.enter():
        await spool.erase(chat_id)


def _links(request: Request, chat_id: str, after: int) -> Links:
    chat = f"{request.scope.get('root_path', '')}/v1/chats/{chat_id}"
    return Links(events=f"{chat}/events?after={after}", stop=f"{chat}/stop", chat=chat)


def _choose_request_id(in_body: str | None, in_header: str | None) -> str | None:
    # The header's IETF draft requires quotes around the key, but many clients leave them out.
    key = None if in_header is None else in_header.strip().removeprefix('"').removesuffix('"')
    if in_body is not None and key is not None and in_body != key:
        raise HTTPException(400, "Idempotency-Key and request_id mean the same thing, but their values differ")
    return in_body if key is None else key
