"""Errors as problem documents (RFC 9457), the same as those of chunkspool's own routes."""

import json
from http import HTTPStatus

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation, ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.deprecation import MiddlewareMixin

from chunkspool import ChunkspoolError
from chunkspool.views import MEDIA_TYPE, Problem, problem_of


class NotLoggedIn(Exception):
    """The request has no session of a user."""

    def __str__(self) -> str:
        """Say what to do."""
        return "log in first"


STATUSES = {
    NotLoggedIn: HTTPStatus.UNAUTHORIZED,
    PermissionDenied: HTTPStatus.FORBIDDEN,
    Http404: HTTPStatus.NOT_FOUND,
    RequestDataTooBig: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    SuspiciousOperation: HTTPStatus.BAD_REQUEST,
    ValidationError: HTTPStatus.UNPROCESSABLE_ENTITY,
}


class ProblemMiddleware(MiddlewareMixin):
    """Answers what a view raises, also while its transaction ends. All else is a bug: Django's 500."""

    def process_exception(self, _request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Return the answer to an error, if it is a known one."""
        if isinstance(error, ChunkspoolError):
            return respond(problem_of(error))
        status = next((status for kind, status in STATUSES.items() if isinstance(error, kind)), None)
        if status is None:
            return None
        return respond_with(status, "; ".join(error.messages) if isinstance(error, ValidationError) else str(error))


def refuse_csrf(_request: HttpRequest, reason: str = "") -> HttpResponse:
    return respond_with(HTTPStatus.FORBIDDEN, reason)


def respond_with(status: HTTPStatus, detail: str) -> HttpResponse:
    kind = status.phrase.lower().replace(" ", "-")
    return respond(Problem(status, kind, status.phrase, detail))


def respond(problem: Problem) -> HttpResponse:
    headers = {"Cache-Control": "no-store", **problem.headers}
    return HttpResponse(json.dumps(problem.document()), MEDIA_TYPE, problem.status, headers=headers)
