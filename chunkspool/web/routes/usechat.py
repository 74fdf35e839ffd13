"""The routes that an AI SDK front end calls: send, resume and stop, by default; and the messages of a chat."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from chunkspool import AsyncSpool
from chunkspool.dialects.usechat_messages import UseChatRequest
from chunkspool.effects import drive_async
from chunkspool.reading.replay_report import report_failed_replay
from chunkspool.views.history import KnownRequest, find_answer, find_known, find_messages
from chunkspool.views.usechat import FIRST_SDK, LAST_SDK, answer_to, asked_of, transcript_of
from chunkspool.web.dependencies import COMMON_PROBLEMS, ChatId, Context, Limit, problem_responses, require
from chunkspool.web.routes.chats import STREAM_RESPONSES
from chunkspool.web.schemas import MessagesResponse, StopResponse

router = APIRouter(prefix="/api/chat")

Sdk = Annotated[
    int,
    Query(
        ge=FIRST_SDK,
        le=LAST_SDK,
        description="the major version of the client's AI SDK: since 7, it can take back what a restart makes void",
    ),
]


@router.post(
    "", response_class=Response, responses={200: STREAM_RESPONSES[200], **problem_responses(429, *COMMON_PROBLEMS)}
)
async def send(request: Request, body: UseChatRequest, context: Context, sdk: Sdk = 6) -> Response:
    """Answer the last message of the history. This stops a generation that is still active: the user has moved on.

    So the sender has to be allowed to ask and to read, and also to stop where something is active.
    """
    spool = await context.spool_for(request, body.id, "ask")
    await context.spool_for(request, body.id, "read")
    log, known = spool.settings.log, KnownRequest(body)
    if log.keep_messages and (body.asks_again or body.continued_message):
        within = context.gate.reading_seconds
        async with context.gate.enter_to_read(log.tenant, body.id):
            known = await drive_async(find_known(body, sdk, within=within), lambda call: call.make(spool))
    generation = await context.enqueue(
        request, spool, body.id, asked_of(known, log), lambda admitted: transcript_of(known.body, log, admitted)
    )
    return context.respond_with_stream(spool, answer_to(body, generation, sdk))


@router.get(
    "/{chat_id}/stream",
    response_class=Response,
    responses={**STREAM_RESPONSES, **problem_responses(409, 410, *COMMON_PROBLEMS)},
)
async def resume(
    chat_id: ChatId, context: Context, spool: Annotated[AsyncSpool, require("read")], sdk: Sdk = 6
) -> Response:
    """Replay the active generation from its beginning, merged, then follow it; 204 if nothing is active.

    If it continues a message, the replay begins with that message's own parts.
    """
    async with context.gate.enter():
        with report_failed_replay(spool.observer):
            stream = await drive_async(find_answer(chat_id, sdk), lambda call: call.make(spool))
    return Response(status_code=204) if stream is None else context.respond_with_stream(spool, stream)


@router.get(
    "/{chat_id}/messages", response_model=MessagesResponse, responses=problem_responses(409, 410, *COMMON_PROBLEMS)
)
async def get_messages(
    chat_id: ChatId,
    context: Context,
    spool: Annotated[AsyncSpool, require("read")],
    sdk: Sdk = 6,
    before: Annotated[str | None, Query(description="the id of a message: only those in front of it")] = None,
    limit: Limit = None,
) -> Response:
    """Return the chat as UI messages: what a page starts with, and what a client loads when a resume gives 204.

    A chat that does not exist has no messages. With `limit`, only the newest; `before` of the reply then leads to those
    in front of them.
    """
    within = context.gate.reading_seconds
    async with context.gate.enter_to_read(spool.settings.log.tenant, chat_id):
        found = find_messages(chat_id, sdk, before, limit, within=within)
        page = await drive_async(found, lambda call: call.make(spool))
    # Not by FastAPI, whose encoder refuses numbers that JSON cannot hold: a tool may have written one.
    return Response(page.to_json(), headers={"cache-control": "no-store"}, media_type="application/json")


@router.post("/{chat_id}/stop", status_code=202, responses=problem_responses(404, *COMMON_PROBLEMS))
async def stop(chat_id: ChatId, context: Context, spool: Annotated[AsyncSpool, require("stop")]) -> StopResponse:
    """Stop all active generations of the chat. The SDK's own `stop()` only closes the connection."""
    async with context.gate.enter():
        return StopResponse(stops=await spool.stop(chat_id))
