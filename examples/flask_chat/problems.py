"""Errors as problem documents (RFC 9457), the same as those of chunkspool's own routes."""

import json

from flask import Flask, Response
from werkzeug.exceptions import HTTPException

from chunkspool import ChunkspoolError
from chunkspool.views import MEDIA_TYPE, Problem, problem_of


def install(app: Flask) -> None:
    """Make `app` answer every error with a problem document; all but ours and HTTP's own are bugs, and a 500."""
    app.register_error_handler(ChunkspoolError, answer_problem)
    app.register_error_handler(HTTPException, answer_http)


def answer_problem(error: Exception) -> Response:
    return respond(problem_of(error))


def answer_http(error: HTTPException) -> Response:
    headers = {name: value for name, value in error.get_headers() if name.lower() != "content-type"}
    kind = error.name.lower().replace(" ", "-")
    return respond(Problem(error.code or 500, kind, error.name, error.description or error.name, headers=headers))


def respond(problem: Problem) -> Response:
    body = json.dumps(problem.document())
    return Response(body, problem.status, {"cache-control": "no-store", **problem.headers}, mimetype=MEDIA_TYPE)
