"""The ASGI app: mount it in FastAPI, Starlette, Litestar or Django, or run it with `chunkspool serve`."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi

from chunkspool import AsyncSpool
from chunkspool.admission.defaults import SafeAdmission
from chunkspool.problems import MEDIA_TYPE
from chunkspool.settings import variable_of
from chunkspool.web import page as chat_page
from chunkspool.web import problems
from chunkspool.web.access import Authorize
from chunkspool.web.admit import Admit
from chunkspool.web.context import WebContext
from chunkspool.web.gate import RequestGate
from chunkspool.web.middleware import cors
from chunkspool.web.middleware.body_check import BodyCheck
from chunkspool.web.middleware.deferred_stream import DeferredStream
from chunkspool.web.middleware.origin_check import OriginCheck
from chunkspool.web.middleware.root_path import RootPath
from chunkspool.web.routes import chat_list, chats, health, usechat
from chunkspool.web.streaming.open_streams import OpenStreams
from chunkspool.web.tokens import SignedTokens

_LOG = logging.getLogger(__name__)


def create_app(
    spool: AsyncSpool,
    authorize: Authorize,
    *,
    admit: Admit | None = None,
    tenant_of: Callable[[Request], str] | None = None,
    page: bool = False,
    mounted_at: str | None = None,
    is_shutting_down: Callable[[], bool] | None = None,
    closes_spool: bool = False,
) -> FastAPI:
    """Return an app with the routes of docs/reference/http.md.

    `authorize` is asked before anything is done in a chat: pass `SignedTokens(secret)`, `allow_all`, or your own.
    `admit` decides what a user may ask of which model; without it, little is the user's to choose (`SafeAdmission`).
    `tenant_of` returns a request's tenant; without it, every request has the spool's own. With `page`, the chat page is
    served at `/`. `mounted_at` is the path in front of the routes; only a framework that does not tell the app where it
    is mounted (Litestar) needs it. `is_shutting_down` returns whether the server shuts down: open streams then end, so
    that the server does not wait for them. Without it, the uvicorn of this process is asked. You close the spool
    yourself, unless `closes_spool` is true: then the app's lifespan closes it. Raises `SettingsError` for tokens of
    another tenant.
    """
    settings = spool.settings
    if isinstance(authorize, SignedTokens) and tenant_of is None:
        authorize.require_tenant(settings.log.tenant)
    streams = OpenStreams(settings.web, is_shutting_down)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        streams.end()
        if closes_spool:
            await spool.aclose()

    app = FastAPI(
        title="chunkspool",
        version=version("chunkspool"),
        summary="Durable, resumable LLM streams",
        # FastAPI's documentation pages load scripts from a CDN.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    gate = RequestGate(settings.web.answer_timeout)
    admit = admit or SafeAdmission.from_settings(settings)
    app.state.context = WebContext(spool, authorize, tenant_of, gate, streams, admit)
    problems.install(app)
    app.include_router(chat_list.router, tags=["chats"])
    app.include_router(chats.router, tags=["chats"])
    app.include_router(usechat.router, tags=["useChat"])
    app.include_router(health.router, tags=["health"])
    if settings.metrics.metrics_token is not None:
        _add_metrics(app, spool)
    if page:
        chat_page.install(app, settings.web)
    app.add_middleware(DeferredStream)
    app.add_middleware(BodyCheck, limit=settings.web.max_body_bytes, seconds=settings.web.request_timeout)
    app.add_middleware(OriginCheck, origins=cors.configured_origins(settings.web))
    cors.install(app, settings.web)
    if mounted_at is not None:
        app.add_middleware(RootPath, at=mounted_at)
    app.openapi = lambda: _build_openapi(app)  # type: ignore[method-assign]
    return app


def _add_metrics(app: FastAPI, spool: AsyncSpool) -> None:
    # Loaded only where there are metrics.
    from chunkspool.metrics.exposition import Exposition  # noqa: PLC0415
    from chunkspool.web.routes import metrics  # noqa: PLC0415
    from chunkspool.web.stats_reader import StatsReader  # noqa: PLC0415

    exposition = Exposition.find(spool.observer, spool.settings)
    if exposition is None:
        why = "the spool has no PrometheusObserver: pass observer= where it is made"
        _LOG.warning("%s is set, but there is no route /metrics: %s", variable_of("metrics_token"), why)
        return
    stats = StatsReader(spool)
    exposition.add_stats(stats.read)
    app.include_router(metrics.router_of(exposition, stats))


def _build_openapi(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document: FastAPI's, with the media type that problems are sent with."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        for operation in (operation for path in document["paths"].values() for operation in path.values()):
            for status, reply in operation["responses"].items():
                if status >= "400" and "content" in reply:
                    reply["content"] = {MEDIA_TYPE: reply["content"]["application/json"]}
        app.openapi_schema = document
    return app.openapi_schema
