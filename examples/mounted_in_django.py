"""The web routes beside a Django project, in its asgi.py. Run it with `uvicorn examples.mounted_in_django:app`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from django.core.asgi import get_asgi_application
from starlette.applications import Starlette
from starlette.routing import Mount

from chunkspool import AsyncSpool
from chunkspool.web import SignedTokens, create_app

django = get_asgi_application()
spool = AsyncSpool.from_env()
tokens = SignedTokens.from_settings(spool.settings)


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncIterator[None]:
    async with spool:
        yield


app = Starlette(routes=[Mount("/chat", create_app(spool, tokens)), Mount("/", django)], lifespan=lifespan)
