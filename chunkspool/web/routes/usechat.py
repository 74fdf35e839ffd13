"""The routes that an AI SDK front end calls: send, resume and stop, by default; and the messages of a chat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from chunkspool import AsyncSpool
from chunkspool.errors import ChatContended, ChatNotFound, CursorExpired, InvalidId, InvalidRequest
from chunkspool.ids import checked_id
from chunkspool.request import GenerationRequest
from chunkspool.results import ChatStatus
from chunkspool.store.digests import Digest
from chunkspool.web.admission.hook import AskedGeneration
from chunkspool.web.dependencies import COMMON_PROBLEMS, ChatId, Context, Limit, problem_responses, require
from chunkspool.web.dialects.usechat import UseChatEncoder
from chunkspool.web.dialects.usechat_conversation import ChatMessages, Conversation, MessagePage
from chunkspool.web.dialects.usechat_json import encode_part
from chunkspool.web.dialects.usechat_messages import UseChatRequest, to_model_messages
from chunkspool.web.routes.chats import STREAM_RESPONSES
from chunkspool.web.schemas import MessagesResponse, StopResponse
from chunkspool.web.streaming.event_stream import StreamSource

router = APIRouter(prefix="/api/chat")
RACES = 10
"""How often the state of a chat is read again because its client asked meanwhile."""

Sdk = Annotated[
    int,
    Query(
        ge=6,
        le=99,
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
    messages = to_model_messages(body.messages)
    if not messages:
        raise InvalidRequest("the messages have no text, no file and no tool output")
    asked = AskedGeneration.of(
        GenerationRequest.checked(prompt=None, messages=messages, model=body.model, params=body.params),
        on_active="replace",
        request_id=_usable_request_id(body.fresh_message_id),
    )
    generation = await context.enqueue(request, spool, body.id, asked, Conversation.of_request(body).to_transcript())
    encoder = UseChatEncoder(generation.generation_id, sdk=sdk, continued=body.continued_message)
    source = StreamSource(spool, body.id, generation.after, generation.generation_id)
    return context.respond_with_stream(source, encoder)


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
        try:
            status, kept = await _find_history(spool, chat_id)
        except ChatNotFound:
            return Response(status_code=204)  # front ends ask on every page load, even before the first message
    active = [one for one in status.generations if one.generation_id in status.active and one.after >= kept.after]
    if not active:
        return Response(status_code=204)
    newest = active[-1]
    continued = kept.conversation.continued if kept.generation_id == newest.generation_id else None
    encoder = UseChatEncoder(newest.generation_id, sdk=sdk, continued=continued, replays=True)
    source = StreamSource(spool, chat_id, newest.after, newest.generation_id, merged=True)
    return context.respond_with_stream(source, encoder)


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
    async with context.gate.enter_to_read(spool.settings.log.tenant, chat_id):
        try:
            status, history = await _find_history(spool, chat_id)
            digest = await spool.digest(chat_id, after=history.after, within=context.gate.reading_seconds)
            if digest.has_gaps or (history.generation_id and digest.first > history.after + 1):
                raise CursorExpired(history.after, digest.first, digest.seq)
            begun = [one for one, seq in digest.generations() if seq > history.after]
            # Those that go on from before it: here, their first event is none.
            found = (await spool.status(chat_id, generation_ids=begun)).generations if history.after else ()
            earlier = {one.generation_id for one in found if one.after < history.after}
            later = [one for one in begun if one not in earlier]
            chat = ChatMessages(history.conversation, history.generation_id, later, sdk=sdk)
            reply = await _collect_messages(spool, digest, chat, chat.page(before, limit))
            # The status leaves out what has expired, the digest what has ended meanwhile.
            reply.active = tuple(one for one in reply.active if one in status.active)
        except ChatNotFound:
            reply = MessagesResponse(messages=[], active=())
    # Not by FastAPI, whose encoder refuses numbers that JSON cannot hold: a tool may have written one.
    messages = [message.model_dump(exclude_none=True) for message in reply.messages]
    body = {"messages": messages, "active": reply.active, "before": reply.before}
    return Response(encode_part(body), headers={"cache-control": "no-store"}, media_type="application/json")


@router.post("/{chat_id}/stop", status_code=202, responses=problem_responses(404, *COMMON_PROBLEMS))
async def stop(chat_id: ChatId, context: Context, spool: Annotated[AsyncSpool, require("stop")]) -> StopResponse:
    """Stop all active generations of the chat. The SDK's own `stop()` only closes the connection."""
    async with context.gate.enter():
        return StopResponse(stops=await spool.stop(chat_id))


@dataclass(frozen=True, slots=True)
class History:
    """The newest history of a chat's clients. What stands before `after` is in it, or was dropped by the client."""

    conversation: Conversation
    generation_id: str | None
    after: int


async def _find_history(spool: AsyncSpool, chat_id: str) -> tuple[ChatStatus, History]:
    """Return how the chat and its active generations stand, and its newest history. Raises `ChatNotFound`."""
    for _ in range(RACES):
        active = (await spool.status(chat_id, generation_ids=())).active
        kept = await spool.transcript(chat_id)
        holder = () if kept is None else (kept.generation_id,)
        status = await spool.status(chat_id, generation_ids=(*active, *holder))
        # Else another generation came meanwhile, and maybe another history.
        if status.active == active and all(_is_among(one, status) for one in holder):
            conversation = Conversation.of_transcript(kept.value) if kept else None
            if kept is None or conversation is None:
                return status, History(Conversation(messages=()), None, 0)
            return status, History(conversation, kept.generation_id, kept.after)
    raise ChatContended(chat_id, "read its messages")


def _is_among(generation_id: str, status: ChatStatus) -> bool:
    return any(one.generation_id == generation_id for one in status.generations)


async def _collect_messages(
    spool: AsyncSpool, digest: Digest, chat: ChatMessages, page: MessagePage
) -> MessagesResponse:
    """Build the messages of one page."""
    at = 0 if digest.blocks and page.generation_ids else None
    while at is not None:
        part = await spool.load_digest(digest, page.generation_ids, at)
        for entry in part.entries:
            chat.add(entry)
        at = part.next
    active = tuple(one for one in digest.active if one in chat.later)
    return MessagesResponse(messages=chat.build(page), active=active, before=page.before)


def _usable_request_id(text: str | None) -> str | None:
    """Return `text` if it can be a request id, else None: front ends may use any text as a message id."""
    try:
        return None if text is None else checked_id("request_id", text)
    except InvalidId:
        return None
