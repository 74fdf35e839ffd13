"""Errors as problem documents (RFC 9457), the same as those of chunkspool's own routes."""

import json
from http import HTTPStatus

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation, ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.deprecation import MiddlewareMixin

from chunkspool import ChunkspoolError
from chunkspool.views import MEDIA_TYPE as PROBLEM_TYPE, Problem, Refused, problem_of


class NotLoggedIn(Exception):
    """The request has no session of a user."""


class ProblemMiddleware(MiddlewareMixin):
    """Answers what a view raises, also while its transaction ends; whatever is not listed is a bug, and Django's 500."""

    def process_exception(self, _request: HttpRequest, error: Exception) -> HttpResponse | None:
        match error:
            case ChunkspoolError() | Refused():
                return respond(problem_of(error))
            case NotLoggedIn():
                return respond(http_problem(HTTPStatus.UNAUTHORIZED, "log in first"))
            case PermissionDenied():
                return respond(http_problem(HTTPStatus.FORBIDDEN, str(error)))
            case Http404():
                return respond(http_problem(HTTPStatus.NOT_FOUND, "there is no such chat"))
            case ValidationError():
                return respond(http_problem(HTTPStatus.UNPROCESSABLE_ENTITY, "; ".join(error.messages)))
            case RequestDataTooBig():
                return respond(http_problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, str(error)))
            case SuspiciousOperation():
                return respond(http_problem(HTTPStatus.BAD_REQUEST, str(error)))
        return None


def refuse_csrf(_request: HttpRequest, reason: str = "") -> HttpResponse:
    return respond(http_problem(HTTPStatus.FORBIDDEN, reason))


def http_problem(status: HTTPStatus, detail: str) -> Problem:
    return Problem(status, status.phrase.lower().replace(" ", "-"), status.phrase, detail or status.phrase)


def respond(problem: Problem) -> HttpResponse:
    headers = {"Cache-Control": "no-store", **problem.headers}
    return HttpResponse(json.dumps(problem.document()), PROBLEM_TYPE, problem.status, headers=headers)
