"""The answer of every route to an error: a problem document."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from chunkspool import problems
from chunkspool.errors import ChunkspoolError
from chunkspool.faults import faults_of
from chunkspool.json_text import to_valid_json
from chunkspool.problems import MEDIA_TYPE, Explain, Problem
from chunkspool.web.access import AccessDenied


class ProblemDocument(BaseModel):
    """A problem document. `type` is `urn:chunkspool:problem:…`; the type decides which further fields there are."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int = Field(ge=400, le=599)
    detail: str


def problem_of(error: Exception) -> Problem:
    """Return what a client may know of an error, one of FastAPI's, too."""
    return problems.problem_of(error, _EXPLANATIONS)


def response_to(problem: Problem) -> Response:
    """Return the response that says it."""
    headers = {"cache-control": "no-store", **problem.headers}
    return Response(to_valid_json(problem.document()), problem.status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Make `app` answer every error with a problem document."""
    for kind in (ChunkspoolError, AccessDenied, HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(kind, _respond)


async def _respond(_request: Request, error: Exception) -> Response:
    return response_to(problem_of(error))


def _explain_denied(error: AccessDenied) -> Problem:
    return Problem(401, "unauthorized", "Not authorized", str(error), headers={"www-authenticate": "Bearer"})


def _explain_invalid(error: RequestValidationError) -> Problem:
    # The input itself is left out: it may be large, or a secret that was sent in the wrong field.
    faults = faults_of(error.errors())[:10]
    errors = [([_shorten(step) for step in place], _shorten(message, 300)) for place, message in faults]
    detail = "; ".join(f"{'.'.join(str(step) for step in at)}: {message}" for at, message in errors[:3])
    more = [{"at": at, "message": message} for at, message in errors]
    return Problem(422, "invalid", "Invalid request", detail, {"errors": more})


def _explain_http(error: HTTPException) -> Problem:
    status = error.status_code
    # Python 3.13 renamed the phrase of 413; the problem's type must not depend on the version.
    phrases = {standard.value: standard.phrase for standard in HTTPStatus} | {413: "Too large"}
    title = phrases.get(status, "Error")
    kind = title.lower().replace(" ", "-")
    return Problem(status, kind, title, str(error.detail), headers=dict(error.headers or {}))


_EXPLANATIONS: Mapping[type[Exception], Explain] = {
    AccessDenied: _explain_denied,
    RequestValidationError: _explain_invalid,
    HTTPException: _explain_http,
}


def _shorten(value: object, longest: int = 60) -> object:
    if isinstance(value, int):
        return value
    # JSON may hold lone surrogates, which no response could encode.
    text = str(value).encode("utf-8", "replace").decode()
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
