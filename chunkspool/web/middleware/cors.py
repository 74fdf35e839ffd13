"""Let pages of other origins use the routes: those that are configured, and no others."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from chunkspool.errors import SettingsError
from chunkspool.settings import WebSettings, variable_of


def install(app: FastAPI, settings: WebSettings) -> None:
    """Answer the preflights of the configured origins. Raises `SettingsError` for cookies from everywhere."""
    origins = configured_origins(settings)
    if not origins:
        return
    if settings.cors_credentials and "*" in origins:
        raise SettingsError(
            f"{variable_of('cors_credentials')} needs {variable_of('cors_origins')} to name the origins: with *, every "
            "page in the world could act with its visitors' cookies"
        )
    app.add_middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_credentials=settings.cors_credentials,
        allow_methods=["GET", "POST", "PUT", "DELETE"],
        # All: clients add their own (user-agent, cache-control, traceparent, …), and none of them grants anything.
        allow_headers=["*"],
        expose_headers=["Retry-After", "x-vercel-ai-ui-message-stream"],
    )


def configured_origins(settings: WebSettings) -> list[str]:
    """Return the origins whose pages may use the routes; "*" among them means all."""
    return [origin.strip() for origin in settings.cors_origins.split(",") if origin.strip()]
