"""What frameworks raise becomes a code: known ones by name or status, unknown ones pass, bugs stay what they are."""

from __future__ import annotations

import ssl

import pytest
from langchain_core import exceptions as langchain
from langgraph import errors as langgraph
from pydantic_ai import exceptions as pydantic_ai

from chunkspool.errors import InvalidInput, ProviderError
from chunkspool.integrations import failures
from chunkspool.integrations.failures import translate
from chunkspool.tasks.providers.failures import RETRYABLE, Code

SECRET = "the-prompt-and-the-key"


class StatusError(Exception):
    """Like those of the SDKs."""

    def __init__(self, status_code: int, code: str | None = None) -> None:
        """Take what an SDK's error has."""
        super().__init__(SECRET)
        self.status_code = status_code
        self.code = code


KNOWN = {
    "langchain 429": (langchain.ModelRateLimitError(SECRET), Code.RATE_LIMITED),
    "langchain 401": (langchain.ModelAuthenticationError(SECRET), Code.AUTHENTICATION),
    "langchain length": (langchain.ContextOverflowError(SECRET), Code.CONTEXT_LENGTH_EXCEEDED),
    "langchain refusal": (langchain.ModelRefusalError(SECRET), Code.REFUSED),
    "langchain parser": (langchain.OutputParserException(SECRET), Code.MALFORMED_RESPONSE),
    "langgraph limit": (langgraph.GraphRecursionError(SECRET), Code.AGENT_LIMIT),
    "pydantic limit": (pydantic_ai.UsageLimitExceeded(SECRET), Code.AGENT_LIMIT),
    "pydantic filter": (pydantic_ai.ContentFilterError(SECRET), Code.REFUSED),
    "pydantic odd": (pydantic_ai.UnexpectedModelBehavior(SECRET), Code.MALFORMED_RESPONSE),
    "pydantic 500": (pydantic_ai.ModelHTTPError(500, "m", SECRET), Code.PROVIDER_UNAVAILABLE),
    "status": (StatusError(503), Code.PROVIDER_UNAVAILABLE),
    "status and name": (StatusError(429, "insufficient_quota"), Code.QUOTA_EXHAUSTED),
    "name": (StatusError(400, "context_length_exceeded"), Code.CONTEXT_LENGTH_EXCEEDED),
    "status of a bad request": (StatusError(422), Code.INVALID_REQUEST),
    "refused": (ConnectionRefusedError(SECRET), Code.PROVIDER_UNREACHABLE),
    "silent": (TimeoutError(SECRET), Code.PROVIDER_TIMEOUT),
    "several": (ExceptionGroup(SECRET, [StatusError(429)]), Code.RATE_LIMITED),
}


@pytest.mark.parametrize(("error", "code"), KNOWN.values(), ids=KNOWN)
def test_a_known_error(error: Exception, code: Code) -> None:
    """It has a code, says whether asking again may help, and quotes nothing."""
    failed = translate(error)
    assert isinstance(failed, ProviderError)
    assert (failed.code, failed.retryable) == (code, code in RETRYABLE)
    assert SECRET not in str(failed)
    assert failed.__cause__ is None


def test_the_cause_tells() -> None:
    """Frameworks wrap what their SDKs raise."""
    outer = RuntimeError(SECRET)
    outer.__cause__ = StatusError(401)
    failed = translate(outer)
    assert isinstance(failed, ProviderError)
    assert failed.code == Code.AUTHENTICATION


def test_an_untrusted_server() -> None:
    """Asking it again is no use; an error that is no server's, such as a tool's, stays what it is."""
    for outer, code in ((StatusError(500), Code.PROVIDER_UNTRUSTED), (ValueError(SECRET), Code.AGENT_ERROR)):
        outer.__context__ = ssl.SSLCertVerificationError(1, "certificate verify failed: certificate has expired")
        failed = translate(outer)
        assert isinstance(failed, ProviderError)
        assert failed.code == code


def test_an_endless_chain_of_causes() -> None:
    """Somebody's errors may lead back to themselves."""
    one, other = RuntimeError("one"), RuntimeError("other")
    one.__cause__, other.__cause__ = other, one
    failed = translate(one)
    assert isinstance(failed, ProviderError)
    assert failed.code == Code.AGENT_ERROR


@pytest.mark.parametrize(
    "error", [ValueError(SECRET), LookupError(SECRET), langchain.LangChainException(SECRET)], ids=repr
)
def test_an_unknown_error_passes(error: Exception) -> None:
    """What is final is a list. Readers get the type, the log gets the cause."""
    failed = translate(error)
    assert isinstance(failed, ProviderError)
    assert (failed.code, failed.retryable) == (Code.AGENT_ERROR, True)
    assert type(error).__name__ in failed.message
    assert SECRET not in str(failed)
    assert failed.__cause__ is error


BUGS = [
    TypeError(),
    AttributeError(),
    ModuleNotFoundError(),
    langgraph.InvalidUpdateError(),
    pydantic_ai.UserError("x"),
    InvalidInput("x"),
    ProviderError("mine", "Mine.", retryable=False),
]


@pytest.mark.parametrize("error", BUGS, ids=lambda error: type(error).__name__)
def test_a_bug_stays_what_it_is(error: Exception) -> None:
    """Asking again is no use, and the traceback is wanted; an error of our own has said all already."""
    assert translate(error) is error


def test_the_names_are_those_of_the_frameworks() -> None:
    """A framework that renames a class would otherwise make its error an unknown one, in silence."""
    names = {name for module in (langchain, langgraph, pydantic_ai) for name in vars(module)}
    import httpx2  # noqa: PLC0415
    import litellm  # noqa: PLC0415
    import openai  # noqa: PLC0415

    names |= {name for module in (litellm, openai, httpx2) for name in dir(module)} | set(dir(__builtins__))
    names |= set(__builtins__) if isinstance(__builtins__, dict) else set()
    assert set(failures._OF_CLASS) - names == set()  # noqa: SLF001
    assert failures._BUGS - names == set()  # noqa: SLF001
