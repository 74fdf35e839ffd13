"""What an error of the OpenAI SDK means for readers, programs and the attempt."""

from __future__ import annotations

import httpx2
import openai
import pytest

from tasks.providers.failures import AGAIN, RETRYABLE, Code, failure
from tasks.providers.openai_failures import of_call, of_read, seconds_to_wait

SECRET = "what-the-user-asked"
REQUEST = httpx2.Request("POST", "http://model.example/v1/chat/completions", json={"messages": SECRET})
NOW = 1_700_000_000.0


def refusal(status: int, body: object = None, **headers: str) -> openai.APIStatusError:
    """Return what the SDK raises for such a reply."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    response = httpx2.Response(status, request=REQUEST, headers=given)
    return openai.APIStatusError(f"Error code: {status} - {SECRET}", response=response, body=body)


def timeout(cause: Exception) -> openai.APITimeoutError:
    """Return what the SDK raises for such a time-out."""
    error = openai.APITimeoutError(request=REQUEST)
    error.__cause__ = cause
    return error


def test_the_sdk_sends_with_httpx2() -> None:
    """Its transport's errors are what `of_call` and `of_read` look for; another one needs other names here."""
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
    """And the message names it, without the server's words."""
    error, after = of_call(refusal(status, {"message": SECRET}))
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
def test_a_servers_name_for_it_goes_before_the_status(status: int, body: object, code: Code) -> None:
    """A used-up quota is a 429 that no patience mends."""
    assert of_call(refusal(status, body))[0].code == code


def test_a_refused_request_tells_which_field_is_wrong() -> None:
    """Names are told, sentences are not."""
    body = {"code": "invalid_value", "param": "messages[0].role", "message": SECRET}
    assert "(HTTP 400, invalid_value, messages[0].role)" in of_call(refusal(400, body))[0].message


@pytest.mark.parametrize("word", [SECRET, f"no name: {SECRET}", "sk-abc", "key7", "a" * 61, "two\nlines", "", 7, None])
def test_what_may_be_a_prompt_or_a_key_is_no_name(word: object) -> None:
    """A server may put either into the fields of its error."""
    assert of_call(refusal(400, {"code": word, "param": word}))[0].message.endswith("(HTTP 400).")


def test_a_busy_provider_says_when_to_come_back() -> None:
    """The reader is told, and the attempt waits as long."""
    error, after = of_call(refusal(429, retry_after="90"))
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
    """What cannot be read asks for nothing, nor does a date that has passed."""
    assert seconds_to_wait({"retry-after": given}, NOW) == seconds


def test_a_provider_that_cannot_be_reached_is_asked_again_and_a_silent_one_is_not() -> None:
    """A silent one may be at work on the request, and would be paid twice."""
    for error in (
        openai.APIConnectionError(request=REQUEST),
        timeout(httpx2.ConnectTimeout("x")),
        httpx2.ReadError(""),
    ):
        assert of_call(error)[0].code == Code.PROVIDER_UNREACHABLE in AGAIN
    for error in (timeout(httpx2.ReadTimeout("x")), httpx2.ReadTimeout("x")):
        assert of_call(error)[0].code == Code.PROVIDER_TIMEOUT not in AGAIN


def test_a_connection_that_is_lost_in_mid_answer_is_not_one_that_fell_silent() -> None:
    """The codes tell which."""
    assert of_read(httpx2.RemoteProtocolError("x")).code == "truncated"
    assert of_read(ConnectionResetError()).code == "truncated"
    assert of_read(httpx2.ReadTimeout("x")).code == "provider_timeout"


@pytest.mark.parametrize("code", Code)
def test_every_code_is_said_to_people(code: Code) -> None:
    """In a sentence, and as a plain string, which travels without our classes."""
    error = failure(code)
    assert error.message.endswith(".")
    assert len(error.message.split()) > 4
    assert type(error.code) is str
