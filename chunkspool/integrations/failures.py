"""Translates what frameworks and the SDKs below them raise, by the names of their classes: it imports none of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from chunkspool.errors import ChunkspoolError, ProviderError
from chunkspool.tasks.providers.certificates import untrusted_failure
from chunkspool.tasks.providers.failures import Code, code_of, failure, safe_names

_OF_CLASS = {
    # LangGraph
    "GraphRecursionError": Code.AGENT_LIMIT,
    "NodeTimeoutError": Code.PROVIDER_TIMEOUT,
    # Pydantic AI
    "UsageLimitExceeded": Code.AGENT_LIMIT,
    "OutputTokenLimitExceeded": Code.AGENT_LIMIT,
    "ConcurrencyLimitExceeded": Code.RATE_LIMITED,
    "ContentFilterError": Code.REFUSED,
    "UnexpectedModelBehavior": Code.MALFORMED_RESPONSE,
    "ModelQuotaExceededError": Code.QUOTA_EXHAUSTED,
    "ModelUnavailableError": Code.PROVIDER_UNAVAILABLE,
    "ModelServerError": Code.PROVIDER_UNAVAILABLE,
    "ModelContextWindowExceededError": Code.CONTEXT_LENGTH_EXCEEDED,
    "ModelRequestTimeout": Code.PROVIDER_TIMEOUT,
    # LangChain; some of these names are Pydantic AI's, too
    "ModelRateLimitError": Code.RATE_LIMITED,
    "ModelTimeoutError": Code.PROVIDER_TIMEOUT,
    "ModelConnectionError": Code.PROVIDER_UNREACHABLE,
    "ModelAuthenticationError": Code.AUTHENTICATION,
    "ModelPermissionDeniedError": Code.AUTHENTICATION,
    "ModelNotFoundError": Code.MODEL_NOT_FOUND,
    "ModelRefusalError": Code.REFUSED,
    "ContextOverflowError": Code.CONTEXT_LENGTH_EXCEEDED,
    "ModelInvalidRequestError": Code.INVALID_REQUEST,
    "OutputParserException": Code.MALFORMED_RESPONSE,
    # LiteLLM
    "ContextWindowExceededError": Code.CONTEXT_LENGTH_EXCEEDED,
    "ContentPolicyViolationError": Code.REFUSED,
    # The SDKs, their HTTP clients, Python
    "APITimeoutError": Code.PROVIDER_TIMEOUT,
    "APIConnectionError": Code.PROVIDER_UNREACHABLE,
    "ConnectTimeout": Code.PROVIDER_UNREACHABLE,
    "ConnectError": Code.PROVIDER_UNREACHABLE,
    "TimeoutException": Code.PROVIDER_TIMEOUT,
    "RemoteProtocolError": Code.TRUNCATED,
    "ReadError": Code.TRUNCATED,
    "ConnectionRefusedError": Code.PROVIDER_UNREACHABLE,
    "ConnectionError": Code.TRUNCATED,
    "TimeoutError": Code.PROVIDER_TIMEOUT,
}
_BUGS = {"TypeError", "AttributeError", "NameError", "AssertionError", "ImportError", "NotImplementedError"} | {
    "UserError",  # Pydantic AI: the agent is put together wrongly
    "InvalidUpdateError",  # LangGraph: the graph is
    "EmptyInputError",
}
"""Only a person can mend these, so asking again is no use. They stay as they are: an internal error, with its cause."""
_DEEPEST = 8
"""How far to look for the cause of an error."""


def translate(error: Exception, unknown: Code = Code.AGENT_ERROR) -> Exception:
    """Return what `error` means for readers. What nobody knows passes: it has the code `unknown`, and its cause."""
    if isinstance(error, ChunkspoolError) or not _BUGS.isdisjoint(_class_names(error)):
        return error
    for one in _causes(error):
        known = _read(one)
        if known is not None:
            # Only of an error that is a server's: an agent's tools may have met another server's bad certificate.
            return untrusted_failure(one) or known
    # An error of the app's own nodes and tools, too: its traceback belongs in the worker's log. Readers get its type.
    failed = failure(unknown, *safe_names(type(error).__name__))
    failed.__cause__ = error
    return failed


def _read(error: BaseException) -> ProviderError | None:
    """Return what a single error means, without its words, which may quote the prompt or the key; None: unknown."""
    status = getattr(error, "status_code", None)
    status = status if isinstance(status, int) else None
    names = [getattr(error, name, None) for name in ("code", "type", "provider_error_code", "provider_error_type")]
    code = code_of(None, names)
    if code is Code.PROVIDER_ERROR:
        of_class = [_OF_CLASS[name] for name in _class_names(error) if name in _OF_CLASS]
        if not of_class and status is None:
            return None
        code = of_class[0] if of_class else code_of(status, ())
    details = [f"HTTP {status}"] if status else []
    return failure(code, *details, *(safe_names(type(error).__name__) if code is Code.AGENT_LIMIT else ()))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and what it was raised from; of a group of errors also the first."""
    current: BaseException | None = error
    for _ in range(_DEEPEST):
        if current is None:
            return
        yield current
        inner: Any = current.exceptions[0] if isinstance(current, BaseExceptionGroup) else current.__cause__
        current = inner


def _class_names(error: BaseException) -> list[str]:
    """Return the names of the error's classes, the closest first."""
    return [kind.__name__ for kind in type(error).__mro__]
