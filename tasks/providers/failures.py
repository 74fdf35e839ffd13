"""The ways in which a model's provider fails: a code for programs and a sentence for people."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from http import HTTPStatus

from chunkspool.errors import ProviderError


class Code(StrEnum):
    """The `code` of `generation.failed`; docs/reference/providers.md has a row for each."""

    RATE_LIMITED = "rate_limited"
    PROVIDER_UNAVAILABLE = "provider_unavailable"
    PROVIDER_UNREACHABLE = "provider_unreachable"
    PROVIDER_UNTRUSTED = "provider_untrusted"
    PROVIDER_TIMEOUT = "provider_timeout"
    PROVIDER_ERROR = "provider_error"
    TRUNCATED = "truncated"
    MALFORMED_RESPONSE = "malformed_response"
    NOT_A_STREAM = "not_a_stream"
    AUTHENTICATION = "authentication"
    QUOTA_EXHAUSTED = "quota_exhausted"
    MODEL_NOT_FOUND = "model_not_found"
    CONTEXT_LENGTH_EXCEEDED = "context_length_exceeded"
    INVALID_REQUEST = "invalid_request"
    REFUSED = "refused"
    AGENT_LIMIT = "agent_limit"
    AGENT_ERROR = "agent_error"


ASKED_AGAIN = frozenset({Code.RATE_LIMITED, Code.PROVIDER_UNAVAILABLE, Code.PROVIDER_UNREACHABLE})
"""After these the attempt itself asks again, as long as the server has not begun to answer."""
RETRYABLE = ASKED_AGAIN | {
    Code.PROVIDER_TIMEOUT,
    Code.PROVIDER_ERROR,
    Code.TRUNCATED,
    Code.MALFORMED_RESPONSE,
    Code.AGENT_ERROR,
}
"""After these a new generation may succeed."""

_SENTENCES = {
    Code.RATE_LIMITED: "The model's provider is busy",
    Code.PROVIDER_UNAVAILABLE: "The model's provider is unavailable at the moment",
    Code.PROVIDER_UNREACHABLE: "The model's provider cannot be reached",
    Code.PROVIDER_UNTRUSTED: "The model's provider could not prove who it is, so it was sent nothing",
    Code.PROVIDER_TIMEOUT: "The model's provider was silent for too long",
    Code.PROVIDER_ERROR: "The model's provider failed while answering",
    Code.TRUNCATED: "The answer was cut off before its end",
    Code.MALFORMED_RESPONSE: "The model's provider sent a response that cannot be read",
    Code.NOT_A_STREAM: "The model's provider did not answer with a stream",
    Code.AUTHENTICATION: "The model's provider rejected the API key",
    Code.QUOTA_EXHAUSTED: "The account with the model's provider has used up its quota",
    Code.MODEL_NOT_FOUND: "The model's provider does not have this model",
    Code.CONTEXT_LENGTH_EXCEEDED: "The conversation is too long for the model",
    Code.INVALID_REQUEST: "The model's provider rejected the request",
    Code.REFUSED: "The model or a content filter refused to answer",
    Code.AGENT_LIMIT: "The agent reached a limit before it had an answer",
    Code.AGENT_ERROR: "The agent failed while answering",
}
# The names that servers give to these, in `code` or `type` of their errors.
_NAMED = {
    "insufficient_quota": Code.QUOTA_EXHAUSTED,
    "context_length_exceeded": Code.CONTEXT_LENGTH_EXCEEDED,
    "exceed_context_size_error": Code.CONTEXT_LENGTH_EXCEEDED,
    "overloaded_error": Code.PROVIDER_UNAVAILABLE,
    "rate_limit_error": Code.RATE_LIMITED,
    "rate_limit_exceeded": Code.RATE_LIMITED,
}
_OF_STATUS: dict[int, Code] = {
    HTTPStatus.UNAUTHORIZED: Code.AUTHENTICATION,
    HTTPStatus.PAYMENT_REQUIRED: Code.QUOTA_EXHAUSTED,
    HTTPStatus.FORBIDDEN: Code.AUTHENTICATION,
    HTTPStatus.NOT_FOUND: Code.MODEL_NOT_FOUND,
    HTTPStatus.REQUEST_TIMEOUT: Code.PROVIDER_TIMEOUT,
    HTTPStatus.TOO_MANY_REQUESTS: Code.RATE_LIMITED,
}


_LONGEST = 60
# "invalid_value", "messages[0].role". No digits or dashes elsewhere, because API keys have them.
_NAME = re.compile(r"[A-Za-z_]+(?:\[\d+\]|\.[A-Za-z_]+)*")


def failure(code: Code, *details: str) -> ProviderError:
    """Return the error for a code. Readers see the `details`."""
    more = f" ({', '.join(details)})" if details else ""
    return ProviderError(code.value, f"{_SENTENCES[code]}{more}.", retryable=code in RETRYABLE)


def code_of(status: int | None, names: Iterable[object]) -> Code:
    """Return what a failure means: by the names that the server gives to it, else by its HTTP status, if any."""
    # A name says more than a status: a used-up quota is also a 429, but asking again does not help.
    named = next((_NAMED[name] for name in names if isinstance(name, str) and name in _NAMED), None)
    if named or status is None:
        return named or Code.PROVIDER_ERROR
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Code.PROVIDER_UNAVAILABLE
    return _OF_STATUS.get(status, Code.INVALID_REQUEST)


def safe_names(*names: object) -> list[str]:
    """Return the values that are plain names. Free text of a server is left out: it may quote the prompt or the key."""
    return [name for name in names if isinstance(name, str) and len(name) <= _LONGEST and _NAME.fullmatch(name)]
