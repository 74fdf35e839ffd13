"""The chat page: static files, with headers that keep a browser from running or fetching anything else."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from chunkspool.settings import WebSettings

_MEDIA_TYPES = {
    "html": "text/html",
    "css": "text/css",
    "js": "text/javascript",
    "mjs": "text/javascript",
    "svg": "image/svg+xml",
    "txt": "text/plain",
}
SECURITY_HEADERS: Mapping[str, str] = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        # Pictures of a question stand in the log themselves; nothing is loaded for them.
        "img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        # No script of the page may make elements out of text, and none may allow itself to.
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    # The browser checks for a newer page on every visit: page and routes must be of one version.
    "cache-control": "no-cache",
}


def install(app: FastAPI, settings: WebSettings) -> None:
    """Serve the page at `/` of the app and its files below `/page/`."""
    contents = dict(_read_files(files("chunkspool.web") / "static"))
    for name, value in (("FLOWER", settings.flower_url or ""), ("HEARTBEAT", f"{settings.heartbeat:g}")):
        shown = html.escape(value, quote=True).encode()
        contents["index.html"] = contents["index.html"].replace(b"@@%b@@" % name.encode(), shown)

    async def serve_page(_request: Request) -> Response:
        return _respond("index.html", contents)

    async def serve_file(request: Request) -> Response:
        return _respond(request.path_params["name"], contents)

    app.add_route("/", serve_page, include_in_schema=False)
    app.add_route("/page/{name:path}", serve_file, include_in_schema=False)


def _read_files(folder: Traversable, path: str = "") -> Iterator[tuple[str, bytes]]:
    """Yield the files below `folder`, by their paths in it."""
    for file in folder.iterdir():
        if file.is_dir():
            yield from _read_files(file, f"{path}{file.name}/")
        else:
            yield f"{path}{file.name}", file.read_bytes()


def _respond(name: str, contents: Mapping[str, bytes]) -> Response:
    if name not in contents:
        raise HTTPException(404)
    media_type = _MEDIA_TYPES[name.rpartition(".")[2]]
    return Response(contents[name], headers=SECURITY_HEADERS, media_type=media_type)
