"""The routes that an AI SDK front end calls by default: send, resume, stop."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response

from chunkspool import AsyncSpool
from chunkspool.errors import ChatNotFound, InvalidId, InvalidRequest
from chunkspool.ids import checked_id
from chunkspool.web.dependencies import COMMON_PROBLEMS, ChatId, Context, problem_responses, require
from chunkspool.web.dialects.usechat import UseChatEncoder
from chunkspool.web.dialects.usechat_messages import UseChatRequest, to_model_messages
from chunkspool.web.routes.chats import STREAM_RESPONSES
from chunkspool.web.schemas import StopResponse
from chunkspool.web.streaming.event_stream import StreamSource

router = APIRouter(prefix="/api/chat")


@router.post("", response_class=Response, responses={200: STREAM_RESPONSES[200], **problem_responses(*COMMON_PROBLEMS)})
async def send(request: Request, body: UseChatRequest, context: Context) -> Response:
    """Answer the last message of the history. This stops a generation that is still active: the user has moved on."""
    spool = await context.admit(request, body.id, "ask")
    messages = to_model_messages(body.messages)
    if not messages:
        raise InvalidRequest("the messages have no text, no file and no tool output")
    async with context.gate.enter():
        generation = await spool.enqueue(
            body.id,
            messages=messages,
            model=body.model,
            params=body.params,
            request_id=_usable_request_id(body.fresh_message_id),
            on_active="replace",
        )
    encoder = UseChatEncoder(generation.generation_id, continued=body.continued_message)
    source = StreamSource(spool, body.id, generation.after, generation.generation_id)
    return context.respond_with_stream(source, encoder)


@router.get(
    "/{chat_id}/stream",
    response_class=Response,
    responses={**STREAM_RESPONSES, **problem_responses(410, *COMMON_PROBLEMS)},
)
async def resume(chat_id: ChatId, context: Context, spool: Annotated[AsyncSpool, require("read")]) -> Response:
    """Replay the active generation from its beginning, merged, then follow it; 204 if nothing is active."""
    try:
        async with context.gate.enter():
            status = await spool.status(chat_id)
    except ChatNotFound:
        return Response(status_code=204)  # front ends ask on every page load, even before the first message
    active = [generation for generation in status.generations if generation.generation_id in status.active]
    if not active:
        return Response(status_code=204)
    newest = active[-1]
    source = StreamSource(spool, chat_id, newest.after, newest.generation_id, merged=True)
    return context.respond_with_stream(source, UseChatEncoder(newest.generation_id))


@router.post("/{chat_id}/stop", status_code=202, responses=problem_responses(404, *COMMON_PROBLEMS))
async def stop(chat_id: ChatId, context: Context, spool: Annotated[AsyncSpool, require("stop")]) -> StopResponse:
    """Stop all active generations of the chat. The SDK's own `stop()` only closes the connection."""
    async with context.gate.enter():
        return StopResponse(stops=await spool.stop(chat_id))


def _usable_request_id(text: str | None) -> str | None:
    """Return `text` if it can be a request id, else None: front ends may use any text as a message id."""
    try:
        return None if text is None else checked_id("request_id", text)
    except InvalidId:
        return None
