"""An error of an SDK becomes a code, a sentence and a decision whether to ask again."""

from __future__ import annotations

import ssl

import httpx2
import openai
import pytest

from chunkspool.tasks.providers.failures import ASKED_AGAIN, RETRYABLE, Code, failure
from chunkspool.tasks.providers.sdk_failures import parse_retry_after, translate_call_error, translate_read_error

SECRET = "what-the-user-asked"
REQUEST = httpx2.Request("POST", "http://model.example/v1/chat/completions", json={"messages": SECRET})
NOW = 1_700_000_000.0


def refusal(status: int, body: object = None, **headers: str) -> openai.APIStatusError:
    """Return what the SDK raises for this response."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    response = httpx2.Response(status, request=REQUEST, headers=given)
    return openai.APIStatusError(f"Error code: {status} - {SECRET}", response=response, body=body)


def timeout(cause: Exception) -> openai.APITimeoutError:
    """Return what the SDK raises for a time-out with this cause."""
    error = openai.APITimeoutError(request=REQUEST)
    error.__cause__ = cause
    return error


def test_the_sdk_sends_with_httpx2() -> None:
    """We translate the errors of its transport; another transport would need other names here."""
    assert issubclass(openai.DefaultAsyncHttpxClient, httpx2.AsyncClient)
    assert openai.Timeout is httpx2.Timeout


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, Code.INVALID_REQUEST),
        (401, Code.AUTHENTICATION),
        (402, Code.QUOTA_EXHAUSTED),
        (403, Code.AUTHENTICATION),
        (404, Code.MODEL_NOT_FOUND),
        (418, Code.INVALID_REQUEST),
        (422, Code.INVALID_REQUEST),
        (429, Code.RATE_LIMITED),
        (499, Code.INVALID_REQUEST),
        (500, Code.PROVIDER_UNAVAILABLE),
        (503, Code.PROVIDER_UNAVAILABLE),
        (529, Code.PROVIDER_UNAVAILABLE),
    ],
)
def test_a_status_has_one_meaning(status: int, code: Code) -> None:
    """The message names the status and does not quote the server."""
    error, after = translate_call_error(refusal(status, {"message": SECRET}))
    assert (error.code, error.retryable, after) == (code, code in RETRYABLE, 0)
    assert f"(HTTP {status})" in error.message
    assert SECRET not in str(error)


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (429, {"code": "insufficient_quota"}, Code.QUOTA_EXHAUSTED),
        (429, {"type": "insufficient_quota", "code": None}, Code.QUOTA_EXHAUSTED),
        (400, {"code": "context_length_exceeded"}, Code.CONTEXT_LENGTH_EXCEEDED),
        (400, {"code": 400, "type": "exceed_context_size_error"}, Code.CONTEXT_LENGTH_EXCEEDED),
        (429, {"code": "rate_limit_exceeded"}, Code.RATE_LIMITED),
        (400, [SECRET], Code.INVALID_REQUEST),
        (400, SECRET, Code.INVALID_REQUEST),
    ],
)
def test_a_servers_code_goes_before_the_status(status: int, body: object, code: Code) -> None:
    """A used-up quota is a 429, too, but asking again does not help."""
    assert translate_call_error(refusal(status, body))[0].code == code


def test_a_rejected_request_names_the_wrong_field() -> None:
    """Plain names are shown, sentences are not."""
    body = {"code": "invalid_value", "param": "messages[0].role", "message": SECRET}
    assert "(HTTP 400, invalid_value, messages[0].role)" in translate_call_error(refusal(400, body))[0].message


@pytest.mark.parametrize("word", [SECRET, f"no name: {SECRET}", "sk-abc", "key7", "a" * 61, "two\nlines", "", 7, None])
def test_what_may_be_a_prompt_or_a_key_is_not_shown(word: object) -> None:
    """A server may put either into the fields of its error."""
    assert translate_call_error(refusal(400, {"code": word, "param": word}))[0].message.endswith("(HTTP 400).")


def test_a_busy_provider_says_how_long_to_wait() -> None:
    """The reader sees it, and the attempt waits that long."""
    error, after = translate_call_error(refusal(429, retry_after="90"))
    assert after == 90
    assert "try again in 90 seconds" in error.message


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("", 0),
        ("3", 3),
        ("0.5", 0.5),
        ("-3", 0),
        ("soon", 0),
        ("nan", 0),
        ("inf", 0),
        ("Tue, 14 Nov 2023 22:13:30 GMT", 10),
        ("Tue, 14 Nov 2023 22:13:10 GMT", 0),
        ("Tue, 99 Nov 2023 22:13:10 GMT", 0),
    ],
)
def test_retry_after_is_seconds_or_a_date(given: str, seconds: float) -> None:
    """An unreadable value or a past date asks for no wait."""
    assert parse_retry_after({"retry-after": given}, NOW) == seconds


def test_an_unreachable_provider_is_asked_again_and_a_silent_one_is_not() -> None:
    """A silent one may be working on the request, which would then be paid twice."""
    for error in (
        openai.APIConnectionError(request=REQUEST),
        timeout(httpx2.ConnectTimeout("x")),
        httpx2.ReadError(""),
    ):
        assert translate_call_error(error)[0].code == Code.PROVIDER_UNREACHABLE in ASKED_AGAIN
    for error in (timeout(httpx2.ReadTimeout("x")), httpx2.ReadTimeout("x")):
        assert translate_call_error(error)[0].code == Code.PROVIDER_TIMEOUT not in ASKED_AGAIN


def untrusted(outer: Exception, words: str = "self-signed certificate") -> Exception:
    """Return `outer` as it is raised while a certificate that is not believed is told."""
    inner = ssl.SSLCertVerificationError(1, f"[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: {words}")
    outer.__context__ = RuntimeError("as an HTTP client wraps it")
    outer.__context__.__cause__ = ExceptionGroup("as some of them do", [inner])
    return outer


@pytest.mark.parametrize("outer", [openai.APIConnectionError(request=REQUEST), refusal(500), refusal(503)], ids=repr)
def test_an_untrusted_server_is_not_asked_again(outer: Exception) -> None:
    """Also not where LiteLLM gives the error a status, as if a server had answered."""
    error, after = translate_call_error(untrusted(outer))
    assert (error.code, error.retryable, after) == (Code.PROVIDER_UNTRUSTED, False, 0)
    assert "its certificate is not trusted: self-signed certificate)" in error.message


def test_a_server_cannot_say_that_it_is_untrusted() -> None:
    """What it answers does not keep anybody from asking it again."""
    quoting = openai.APIStatusError(
        "[SSL: CERTIFICATE_VERIFY_FAILED]", response=httpx2.Response(503, request=REQUEST), body=None
    )
    assert translate_call_error(quoting)[0].code == Code.PROVIDER_UNAVAILABLE


def test_an_endless_chain_of_causes_ends() -> None:
    """Somebody's errors may lead back to themselves."""
    one, other = openai.APIConnectionError(request=REQUEST), RuntimeError()
    one.__cause__, other.__cause__ = other, one
    assert translate_call_error(one)[0].code == Code.PROVIDER_UNREACHABLE


def test_a_connection_lost_in_mid_answer_is_not_a_silent_one() -> None:
    """They have different codes."""
    assert translate_read_error(httpx2.RemoteProtocolError("x")).code == "truncated"
    assert translate_read_error(ConnectionResetError()).code == "truncated"
    assert translate_read_error(httpx2.ReadTimeout("x")).code == "provider_timeout"


@pytest.mark.parametrize("code", Code)
def test_every_code_has_a_sentence_for_people(code: Code) -> None:
    """And the code of the error is a plain string, which can be unpickled without our classes."""
    error = failure(code)
    assert error.message.endswith(".")
    assert len(error.message.split()) > 4
    assert type(error.code) is str
