"""The web routes in a FastAPI app. Run it with `uvicorn examples.mounted_in_fastapi:app`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from chunkspool import AsyncSpool
from chunkspool.web import SignedTokens, create_app

spool = AsyncSpool.from_env()  # nothing connects before the first request
tokens = SignedTokens.from_settings(spool.settings)


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    async with spool:
        yield


app = FastAPI(lifespan=lifespan)
app.mount("/chat", create_app(spool, tokens))


@app.post("/login/{chat_id}")
async def login(chat_id: str) -> str:
    return tokens.issue(chat_id, ["ask", "read", "stop"], seconds=900)  # once you know who it is
