"""Health checks: is the process alive, and can it reach Redis."""

from __future__ import annotations

from fastapi import APIRouter

from chunkspool.errors import ChatNotFound
from chunkspool.web.dependencies import Context, problem_responses
from chunkspool.web.schemas import Health

router = APIRouter()
_NO_CHAT = "readyz"


@router.get("/healthz")
async def healthz() -> Health:
    """Report that the process is alive; Redis is not asked."""
    return Health()


@router.get("/readyz", responses=problem_responses(502, 503))
async def readyz(context: Context) -> Health:
    """Report whether Redis answers."""
    try:
        async with context.gate.enter():
            await context.spool.read(_NO_CHAT, limit=1)
    except ChatNotFound:
        pass  # Redis answered, and that is all the check needs
    return Health()
