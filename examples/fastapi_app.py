"""A web app around a chat: ask, follow from any point, stop. Run it with `uvicorn examples.fastapi_app:app`."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import FastAPI, Header
from fastapi.responses import StreamingResponse

from chunkspool import AsyncSpool, Generation

app, spool = FastAPI(), AsyncSpool.from_env()  # nothing connects before the first request


@app.post("/chats/{chat_id}", status_code=202)
async def ask(chat_id: str, prompt: str) -> Generation:
    return await spool.enqueue(chat_id, prompt)


@app.get("/chats/{chat_id}/events")
async def follow(
    chat_id: str, after: int = 0, last_event_id: Annotated[int | None, Header()] = None
) -> StreamingResponse:
    async def events() -> AsyncIterator[bytes]:
        async with spool.subscribe(chat_id, last_event_id or after) as entries:
            async for entry in entries:
                yield b"id: %d\ndata: %s\n\n" % (entry.seq, entry.raw)

    return StreamingResponse(events(), media_type="text/event-stream")


@app.post("/chats/{chat_id}/stop", status_code=202)
async def stop(chat_id: str) -> None:
    await spool.stop(chat_id)
