"""The page: files as they are, with the headers that keep a browser from running or fetching anything else."""

from __future__ import annotations

import html
from collections.abc import Mapping
from importlib.resources import files

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

_MEDIA_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
SECURITY: Mapping[str, str] = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    # The page and the routes are one version.
    "cache-control": "no-cache",
}


def install(app: FastAPI, flower_url: str | None) -> None:
    """Serve the page at `/` of the app, its files below `/page/`."""
    found = {file.name: file.read_bytes() for file in (files("chunkspool.web") / "static").iterdir()}
    flower = html.escape(flower_url or "", quote=True)
    found["index.html"] = found["index.html"].replace(b"@@FLOWER@@", flower.encode())

    async def page(_request: Request) -> Response:
        return _file("index.html", found)

    async def file(request: Request) -> Response:
        return _file(request.path_params["name"], found)

    app.add_route("/", page, include_in_schema=False)
    app.add_route("/page/{name}", file, include_in_schema=False)


def _file(name: str, found: Mapping[str, bytes]) -> Response:
    if name not in found:
        raise HTTPException(404)
    media_type = _MEDIA_TYPES[name.rpartition(".")[2]]
    return Response(found[name], headers=SECURITY, media_type=media_type)
