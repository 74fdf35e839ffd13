"""The web routes in a Starlette app. Run it with `uvicorn examples.mounted_in_starlette:app`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.routing import Mount

from chunkspool import AsyncSpool
from chunkspool.web import SignedTokens, create_app

spool = AsyncSpool.from_env()
tokens = SignedTokens.from_settings(spool.settings)


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncIterator[None]:
    async with spool:
        yield


app = Starlette(routes=[Mount("/chat", create_app(spool, tokens))], lifespan=lifespan)
