"""A generation's request is stored as it was given and read back unchanged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkspool.errors import CorruptLog, InvalidRequest
from chunkspool.request import GenerationRequest, stored_request, wants_history

LIMIT = 10_000_000
# Surrogates have their own test.
texts = st.text(st.characters(exclude_categories=["Cs"]))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


def request_of(**given_: object) -> GenerationRequest:
    """Return the request that `enqueue` would build."""
    fields: dict[str, object] = {"prompt": None, "messages": None, "model": None, "params": None}
    return GenerationRequest.checked(**(fields | given_))


@given(params=st.dictionaries(texts, json_values, max_size=4), content=texts.filter(str.strip))
def test_a_request_survives_storing(params: dict[str, object], content: str) -> None:
    """Any JSON comes back equal, whatever characters it contains."""
    request = request_of(messages=[{"role": "user", "content": content}], params=params, model="m")
    back = stored_request(request.encode(LIMIT))
    assert (back.params, back.messages, back.model) == (params, ({"role": "user", "content": content},), "m")


def test_a_prompt_is_stored_as_one_user_message() -> None:
    """It has the same shape as messages."""
    assert request_of(prompt="hello") == request_of(messages=[{"role": "user", "content": "hello"}])
    assert request_of(prompt="hello").encode(LIMIT) == (
        b'{"messages":[{"role":"user","content":"hello"}],"model":null,"params":{}}'
    )


def test_messages_reach_the_model_unchanged() -> None:
    """Unknown fields are kept and missing ones are not added."""
    messages = [
        {"role": "system", "content": ""},
        {"role": "user", "content": [{"type": "text", "text": "what is it?"}, {"type": "image_url", "image_url": {}}]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "look"}}]},
        {"role": "tool", "content": "a cat", "tool_call_id": "1"},
        {"role": "assistant", "tool_calls": []},
    ]
    request = stored_request(request_of(messages=tuple(messages)).encode(LIMIT), "so far")
    assert list(request.messages) == messages
    assert request.prefix == "so far"


def test_the_size_limit_counts_stored_bytes() -> None:
    """It counts bytes of the encoded request, not characters of the prompt."""
    request = request_of(prompt="é" * 100)
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


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"history": True}, True),
        ({"history": False}, False),
        ({}, False),
        ({"prompt": '"history":true'}, False),
        ({"params": {"history": True}}, False),
        ({"params": {"history": False}, "history": True}, True),
    ],
)
def test_a_stored_request_tells_whether_it_wants_history(fields: dict[str, object], wanted: bool) -> None:
    """It is the request that says so, not something in it."""
    assert wants_history(request_of(**{"prompt": "x", **fields}).encode(LIMIT)) is wanted


@pytest.mark.parametrize("raw", [*NO_REQUESTS, b'{"messages":[{"role":"user"}],"params":7}'])
def test_a_foreign_stored_request_is_corrupt(raw: bytes) -> None:
    """Data that another program wrote into the hash is not mistaken for a request."""
    with pytest.raises(CorruptLog, match="the stored request is not one that chunkspool wrote"):
        stored_request(raw)


def test_only_a_few_errors_are_listed() -> None:
    """A thousand bad messages do not produce a thousand lines."""
    with pytest.raises(InvalidRequest) as refused:
        request_of(messages=[{}] * 1000)
    assert str(refused.value).count("Field required") == 3
