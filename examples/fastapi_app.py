"""Routes written by hand: ask, follow from any point, stop. `chunkspool.web` has them ready-made, and more.

Run it with `uvicorn examples.fastapi_app:app --timeout-graceful-shutdown 5`: by default uvicorn waits for open streams
for as long as they take.
"""

import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Annotated

from fastapi import Depends, FastAPI, Header, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from chunkspool import AsyncSpool, ChunkspoolError, Generation
from chunkspool.errors import (
    ChatBusy,
    ChatNotFound,
    CorruptLog,
    CursorAhead,
    CursorExpired,
    EnqueueFailed,
    GenerationNotFound,
    InvalidCursor,
    InvalidInput,
    LimitExceeded,
    RequestTooLarge,
    StoreError,
)

STATUSES: tuple[tuple[type[ChunkspoolError], int], ...] = (  # the first that fits; 500 for all others
    (ChatNotFound, 404),
    (GenerationNotFound, 404),
    (InvalidCursor, 400),
    (CursorAhead, 400),
    (CursorExpired, 410),
    (ChatBusy, 409),
    (RequestTooLarge, 413),
    (LimitExceeded, 429),
    (InvalidInput, 422),
    (EnqueueFailed, 503),
    (StoreError, 503),
)
# Otherwise nginx, and proxies that compress, would hold the events back.
STREAM_HEADERS = {"cache-control": "no-cache, no-transform", "x-accel-buffering": "no"}

spool = AsyncSpool.from_env()  # nothing connects before the first request
log = logging.getLogger(__name__)


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    async with spool:
        yield


app = FastAPI(lifespan=lifespan)


def problem(error: ChunkspoolError) -> JSONResponse:
    status = next((status for kind, status in STATUSES if isinstance(error, kind)), 500)
    detail = str(error)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:  # the text may hold addresses: not for strangers
        log.error("%s: %s", type(error).__name__, error)
        detail = HTTPStatus(status).phrase
    return JSONResponse({"status": status, "detail": detail}, status)


@app.exception_handler(ChunkspoolError)
async def answer_problem(_request: Request, error: ChunkspoolError) -> JSONResponse:
    return problem(error)


@app.post("/chats/{chat_id}", status_code=202)
async def ask(chat_id: str, prompt: str) -> Generation:
    return await spool.enqueue(chat_id, prompt)


@app.post("/chats/{chat_id}/stop", status_code=202)
async def stop(chat_id: str) -> None:
    await spool.stop(chat_id)


async def cursor_of(after: str = "0", last_event_id: Annotated[str | None, Header()] = None) -> str:
    text = after if last_event_id is None else last_event_id  # a reconnecting EventSource sends the header
    if not re.fullmatch(r"[0-9]{1,16}(\.[0-9a-f]{0,12}-[0-9a-f]{1,12})?", text):
        raise InvalidCursor(text)
    return text


async def events(chat_id: str, cursor: str) -> AsyncGenerator[bytes, None]:
    async with spool.subscribe(chat_id, cursor) as entries:  # raises if the chat or the cursor is wrong
        yield b""
        try:
            async for entry in entries:
                yield b"id: %b\ndata: %b\n\n" % (entry.cursor.encode(), entry.raw)
        except ChunkspoolError as error:
            # The id of an unreadable event lets the client continue after it.
            skip = b"id: %d\n" % error.seq if isinstance(error, CorruptLog) and error.seq else b""
            yield b"%bevent: problem\ndata: %b\n\n" % (skip, bytes(problem(error).body))


@app.get("/chats/{chat_id}/events")
async def follow(chat_id: str, cursor: Annotated[str, Depends(cursor_of)]) -> Response:
    chat = await spool.status(chat_id, generation_ids=())
    if not chat.active and chat.last == int(cursor.partition(".")[0]):
        await spool.read(chat_id, cursor, 1)  # raises if it is the cursor of a log that was lost
        return Response(status_code=204)  # nothing will come: an EventSource does not reconnect
    stream = events(chat_id, cursor)
    await anext(stream)  # up to the first yield: what is wrong is raised before the 200 is sent
    return StreamingResponse(stream, media_type="text/event-stream", headers=STREAM_HEADERS)
