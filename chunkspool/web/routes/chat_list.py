"""The list of chats, and their titles."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.exceptions import HTTPException

from chunkspool import AsyncSpool
from chunkspool.operations.chats import MAX_CHATS
from chunkspool.web.dependencies import COMMON_PROBLEMS, ChatId, Context, problem_responses, require
from chunkspool.web.schemas import ChatsResponse, Id, ListedChat, TitleBody

router = APIRouter(prefix="/v1/chats")


@router.get("", responses=problem_responses(*COMMON_PROBLEMS))
async def list_chats(
    request: Request,
    response: Response,
    context: Context,
    owner: Annotated[Id | None, Query(description="whose, for those who may list all")] = None,
    before: Annotated[str | None, Query(max_length=150, description="the `before` of a page")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_CHATS, description="how many")] = 50,
) -> ChatsResponse:
    """Return the sender's chats, or the tenant's for those who may see them: the one that was asked last first."""
    spool, granted = await context.lister_for(request)
    whose = owner if granted.lists_all else granted.owner
    if owner not in {None, whose}:
        raise HTTPException(403, "not allowed: list the chats of another owner")
    async with context.gate.enter():
        page = await spool.chats(whose, before=before, limit=limit)
    response.headers["cache-control"] = "no-store"
    failed = [chat_id for chat_id, _ in page.failed]
    return ChatsResponse(chats=[ListedChat.of(one) for one in page.chats], before=page.before, failed=failed)


@router.put("/{chat_id}/title", status_code=204, responses=problem_responses(404, *COMMON_PROBLEMS))
async def set_title(
    chat_id: ChatId, context: Context, spool: Annotated[AsyncSpool, require("ask")], body: TitleBody
) -> None:
    """Give the chat a title, or take it away."""
    async with context.gate.enter():
        await spool.set_title(chat_id, body.title)
