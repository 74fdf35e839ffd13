"""The routes that an AI SDK front end calls by default: send, resume, stop."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response

from chunkspool import AsyncSpool
from chunkspool.errors import ChatNotFound, InvalidId, InvalidRequest
from chunkspool.ids import checked_id
from chunkspool.web.dependencies import ANYWHERE, ChatId, Context, may, problems
from chunkspool.web.dialects.usechat import UseChat
from chunkspool.web.dialects.usechat_messages import UseChatRequest, model_messages
from chunkspool.web.routes.chats import EVENTS
from chunkspool.web.schemas import StopResponse
from chunkspool.web.streaming.event_stream import Followed

router = APIRouter(prefix="/api/chat")


@router.post("", response_class=Response, responses={200: EVENTS[200], **problems(*ANYWHERE)})
async def send(request: Request, body: UseChatRequest, context: Context) -> Response:
    """Answer the history's last message. A generation that is still active is stopped: the user has moved on."""
    spool = await context.admit(request, body.id, "ask")
    messages = model_messages(body.messages)
    if not messages:
        raise InvalidRequest("the messages have no text, no file and no tool output")
    async with context.gate.enter():
        made = await spool.enqueue(
            body.id,
            messages=messages,
            model=body.model,
            params=body.params,
            request_id=_id_or_none(body.fresh_message_id),
            on_active="replace",
        )
    encoder = UseChat(made.generation_id, continues_message=body.continues_message)
    return context.stream(Followed(spool, body.id, made.after, made.generation_id), encoder)


@router.get("/{chat_id}/stream", response_class=Response, responses={**EVENTS, **problems(410, *ANYWHERE)})
async def resume(chat_id: ChatId, context: Context, spool: Annotated[AsyncSpool, may("read")]) -> Response:
    """Replay the active generation from its beginning, merged, then follow it; 204 where nothing is active."""
    try:
        async with context.gate.enter():
            status = await spool.status(chat_id)
    except ChatNotFound:
        return Response(status_code=204)  # a front end asks on every page load, also before the first message
    active = [generation for generation in status.generations if generation.generation_id in status.active]
    if not active:
        return Response(status_code=204)
    newest = active[-1]
    followed = Followed(spool, chat_id, newest.after, newest.generation_id, merged=True)
    return context.stream(followed, UseChat(newest.generation_id))


@router.post("/{chat_id}/stop", status_code=202, responses=problems(404, *ANYWHERE))
async def stop(chat_id: ChatId, context: Context, spool: Annotated[AsyncSpool, may("stop")]) -> StopResponse:
    """Stop what is active in the chat; the SDK's own `stop()` only hangs up."""
    async with context.gate.enter():
        return StopResponse(stops=await spool.stop(chat_id))


def _id_or_none(text: str | None) -> str | None:
    """Return an id that can be a request id; front ends may make theirs of anything."""
    try:
        return None if text is None else checked_id("request_id", text)
    except InvalidId:
        return None
