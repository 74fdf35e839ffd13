"""Whether the process is alive, and whether it can do its work."""

from __future__ import annotations

from fastapi import APIRouter

from chunkspool.errors import ChatNotFound
from chunkspool.web.dependencies import Context, problems
from chunkspool.web.schemas import Health

router = APIRouter()
_NO_CHAT = "readyz"


@router.get("/healthz")
async def healthz() -> Health:
    """Say that the process lives; nothing else is asked."""
    return Health()


@router.get("/readyz", responses=problems(502, 503))
async def readyz(context: Context) -> Health:
    """Say whether Redis answers."""
    try:
        async with context.gate.enter():
            await context.spool.read(_NO_CHAT, limit=1)
    except ChatNotFound:
        pass  # Redis has answered
    return Health()
