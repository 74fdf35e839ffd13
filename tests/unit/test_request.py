"""What a generation is asked: kept as it was given, and read back as it was kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkspool.errors import CorruptLog, InvalidRequest
from chunkspool.request import GenerationRequest, stored_request

LIMIT = 10_000_000
# Surrogates have their own test.
texts = st.text(st.characters(exclude_categories=["Cs"]))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


def made(**given_: object) -> GenerationRequest:
    """Return the request that `enqueue` would make."""
    fields: dict[str, object] = {"prompt": None, "messages": None, "model": None, "params": None}
    return GenerationRequest.checked(**(fields | given_))


@given(params=st.dictionaries(texts, json_values, max_size=4), content=texts.filter(str.strip))
def test_what_is_stored_is_what_was_asked(params: dict[str, object], content: str) -> None:
    """Any JSON comes back equal, whatever characters are in it."""
    request = made(messages=[{"role": "user", "content": content}], params=params, model="m")
    back = stored_request(request.encode(LIMIT))
    assert (back.params, back.messages, back.model) == (params, ({"role": "user", "content": content},), "m")


def test_a_prompt_is_one_message_of_the_user() -> None:
    """It is stored in the same shape as messages."""
    assert made(prompt="hello") == made(messages=[{"role": "user", "content": "hello"}])
    assert made(prompt="hello").encode(LIMIT) == (
        b'{"messages":[{"role":"user","content":"hello"}],"model":null,"params":{}}'
    )


def test_messages_go_to_the_model_as_they_are() -> None:
    """Fields that chunkspool does not know are kept, those that were not given are not invented."""
    messages = [
        {"role": "system", "content": ""},
        {"role": "user", "content": [{"type": "text", "text": "what is it?"}, {"type": "image_url", "image_url": {}}]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "look"}}]},
        {"role": "tool", "content": "a cat", "tool_call_id": "1"},
        {"role": "assistant", "tool_calls": []},
    ]
    request = stored_request(made(messages=tuple(messages)).encode(LIMIT), "so far")
    assert list(request.messages) == messages
    assert request.prefix == "so far"


def test_the_size_is_that_of_what_is_stored() -> None:
    """Bytes of the encoded request, not characters of the prompt."""
    request = made(prompt="é" * 100)
    size = len(request.encode(LIMIT))
    assert request.encode(size)
    with pytest.raises(InvalidRequest, match=f"the request has {size} bytes and max_request_bytes is {size - 1}"):
        request.encode(size - 1)


NO_REQUESTS = [
    b"",
    b"{",
    b"[]",
    b"7",
    b"{}",
    b'{"messages":[]}',
    b'{"messages":[7]}',
    b'{"messages":[{"content":""}]}',
    b"\xff",
]


@pytest.mark.parametrize("raw", [*NO_REQUESTS, b'{"messages":[{"role":"user"}],"params":7}'])
def test_a_stored_request_that_is_none(raw: bytes) -> None:
    """What another program wrote into the hash is told from a request."""
    with pytest.raises(CorruptLog, match="the stored request is not one that chunkspool wrote"):
        stored_request(raw)


def test_only_a_few_errors_are_told() -> None:
    """A thousand bad messages make no error of a thousand lines."""
    with pytest.raises(InvalidRequest) as refused:
        made(messages=[{}] * 1000)
    assert str(refused.value).count("Field required") == 3
