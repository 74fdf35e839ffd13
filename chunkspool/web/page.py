"""The chat page: static files, with headers that keep a browser from running or fetching anything else."""

from __future__ import annotations

import html
from collections.abc import Mapping
from importlib.resources import files

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

_MEDIA_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
SECURITY_HEADERS: Mapping[str, str] = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    # The browser checks for a newer page on every visit: page and routes must be of one version.
    "cache-control": "no-cache",
}


def install(app: FastAPI, flower_url: str | None) -> None:
    """Serve the page at `/` of the app and its files below `/page/`."""
    contents = {file.name: file.read_bytes() for file in (files("chunkspool.web") / "static").iterdir()}
    flower = html.escape(flower_url or "", quote=True)
    contents["index.html"] = contents["index.html"].replace(b"@@FLOWER@@", flower.encode())

    async def serve_page(_request: Request) -> Response:
        return _respond("index.html", contents)

    async def serve_file(request: Request) -> Response:
        return _respond(request.path_params["name"], contents)

    app.add_route("/", serve_page, include_in_schema=False)
    app.add_route("/page/{name}", serve_file, include_in_schema=False)


def _respond(name: str, contents: Mapping[str, bytes]) -> Response:
    if name not in contents:
        raise HTTPException(404)
    media_type = _MEDIA_TYPES[name.rpartition(".")[2]]
    return Response(contents[name], headers=SECURITY_HEADERS, media_type=media_type)
