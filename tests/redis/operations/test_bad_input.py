"""Bad input: every call rejects what it cannot use, says what to pass instead, and writes nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from redis import Redis
from support.chats.logs import CHAT, KEYS
from support.readers.blocking_spool import SPOOL_KINDS, BlockingSpool, open_spool
from support.servers.contents import read_contents

from chunkspool.errors import (
    ChunkspoolError,
    CursorAhead,
    GenerationNotFound,
    InvalidCursor,
    InvalidId,
    InvalidInput,
    InvalidRequest,
    RequestIdReused,
    RequestTooLarge,
)

LIMIT = 8192
BAD_IDS = [
    "",
    "a{b",
    "a}b",
    "a/b",
    "a b",
    "nul\0",
    "new\n",
    "ünï",
    "x" * 129,
    None,
    7,
    b"bytes",
    ["list"],
    "\ud800",
]


def nested(depth: int) -> Any:
    """Return nested lists."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def cyclic() -> list[Any]:
    """Return a list that contains itself."""
    value: list[Any] = []
    value.append(value)
    return value


@pytest.fixture(params=SPOOL_KINDS)
def any_spool(request: pytest.FixtureRequest, redis_url: str) -> Iterator[BlockingSpool]:
    """Provide a spool of each kind, with a chat in which one generation has ended."""
    with open_spool(request.param, redis_url, max_request_bytes=LIMIT) as any_spool:
        any_spool.enqueue(CHAT, "hello")
        any_spool.stop(CHAT)
        yield any_spool


def assert_rejected(client: Redis, kind: type[ChunkspoolError], said: str, call: Callable[[], object]) -> None:
    """Fail unless `call` raises `kind` with a short message containing `said`, and changes nothing in Redis."""
    before = read_contents(client)
    with pytest.raises(kind) as refused:
        call()
    assert type(refused.value) is kind
    assert said in str(refused.value)
    assert len(str(refused.value)) < 400
    assert read_contents(client) == before


PROMPTS = {
    "neither": ({}, "either prompt="),
    "both": ({"prompt": "a", "messages": [{"role": "user", "content": "a"}]}, "either prompt="),
    "empty": ({"prompt": ""}, "prompt is empty"),
    "blank": ({"prompt": " \n\t"}, "prompt is empty"),
    "huge": ({"prompt": "x" * LIMIT}, f"max_request_bytes is {LIMIT}"),
    "huge once encoded": ({"prompt": "\0" * (LIMIT // 6)}, f"max_request_bytes is {LIMIT}"),
    "bytes": ({"prompt": b"hello"}, "prompt must be a text, not bytes"),
    "number": ({"prompt": 7}, "prompt must be a text, not int"),
    "list": ({"prompt": ["hello"]}, "prompt must be a text, not list"),
    "half a character": ({"prompt": "smile \ud83d"}, "surrogate"),
}
MESSAGES = {
    "none of them": ([], "messages is empty"),
    "a text": ("hello", "messages must be a list of {role, content}, not str"),
    "one without its list": ({"role": "user", "content": "x"}, "messages must be a list of {role, content}, not dict"),
    "an iterator": (iter(()), "messages must be a list"),
    "numbers": ([1], "messages.0: Input should be a valid dictionary"),
    "nothing said": ([{"role": "user", "content": " "}], "messages.0: a user's message has no content"),
    "no parts": ([{"role": "user", "content": []}], "messages.0: a user's message has no content"),
    "no content": ([{"role": "user"}], "messages.0: a user's message has no content"),
    "no role": ([{"content": "x"}], "messages.0.role: Field required"),
    "another role": ([{"role": "boss", "content": "x"}], "messages.0.role: Input should be 'system'"),
    "a number for content": ([{"role": "user", "content": 1}], "messages.0.content"),
    "parts that are texts": ([{"role": "user", "content": ["x"]}], "messages.0.content"),
    "not a number": ([{"role": "user", "content": "x", "weight": math.nan}], "messages.0.weight"),
    "no JSON": ([{"role": "user", "content": "x", "of": object()}], "messages.0.of"),
    "huge": ([{"role": "user", "content": "x" * LIMIT}], "max_request_bytes"),
    "half a character": ([{"role": "user", "content": "\udc00"}], "surrogate"),
    "the second is bad": ([{"role": "user", "content": "x"}, {"role": "tool", "content": 1}], "messages.1.content"),
}
FURTHER = [
    ("model", 7, "model: Input should be a valid string"),
    ("model", "", "model: String should have at least 1 character"),
    ("model", "x" * 201, "model: String should have at most 200 characters"),
    ("model", "\ud800", "model"),
    ("params", [], "params: Input should be a valid dictionary"),
    ("params", {1: 2}, "params.1"),
    ("params", {"temperature": math.nan}, "params.temperature"),
    ("params", {"deep": [{"x": -math.inf}]}, "params.deep"),
    ("params", {"x": object()}, "params.x: input was not a valid JSON value"),
    ("params", {"x": {1, 2}}, "params.x: input was not a valid JSON value"),
    ("params", {"x": Decimal(1)}, "params.x: input was not a valid JSON value"),
    ("params", {"x": nested(210)}, "nested too deep"),
    ("params", {"x": nested(100_000)}, "params.x"),
    ("params", {"x": cyclic()}, "cyclic"),
    ("params", {"x": 10**4000 * 10**400}, "too large a number"),
    ("params", {"x": {"\ud800": 1}}, "surrogate"),
    ("on_active", "wait", 'pass "reject", "replace", "allow" or "queue"'),
    ("on_active", None, 'pass "reject", "replace", "allow" or "queue"'),
    ("on_active", ["reject"], 'pass "reject", "replace", "allow" or "queue"'),
    ("ttl", 0, "pass seconds, from 1 to"),
    ("ttl", -1, "pass seconds, from 1 to"),
    ("ttl", math.nan, "pass seconds, from 1 to"),
    ("ttl", math.inf, "pass seconds, from 1 to"),
    ("ttl", True, "pass seconds, from 1 to"),
    ("ttl", "60", "pass seconds, from 1 to"),
    ("ttl", 10**5000, "pass seconds, from 1 to"),
]


def error_for(said: str) -> type[ChunkspoolError]:
    """Return the error type for a message: input that is too large has its own, for HTTP's 413."""
    return RequestTooLarge if "max_request_bytes" in said else InvalidRequest


def test_an_invalid_prompt_is_rejected(any_spool: BlockingSpool, client: Redis, subtests: pytest.Subtests) -> None:
    """Empty, huge, of a wrong type, unpaired surrogates, both or neither of prompt and messages."""
    for case, (given, said) in PROMPTS.items():
        with subtests.test(case):
            assert_rejected(client, error_for(said), said, partial(any_spool.enqueue, CHAT, **given))


def test_invalid_messages_are_rejected(any_spool: BlockingSpool, client: Redis, subtests: pytest.Subtests) -> None:
    """The error names the place: messages.<index>.<field>."""
    for case, (given, said) in MESSAGES.items():
        with subtests.test(case):
            assert_rejected(client, error_for(said), said, partial(any_spool.enqueue, CHAT, messages=given))


def test_other_invalid_arguments_of_enqueue_are_rejected(
    any_spool: BlockingSpool, client: Redis, subtests: pytest.Subtests
) -> None:
    """A model, params, on_active or ttl that cannot be used."""
    for name, given, said in FURTHER:
        with subtests.test(name, said=said):
            call = partial(any_spool.enqueue, CHAT, "hello", **{name: given})
            assert_rejected(client, InvalidRequest, said, call)


def test_ids_that_could_break_out_of_a_key_are_rejected(any_spool: BlockingSpool, client: Redis) -> None:
    """Braces, slashes, control characters, non-ASCII, over 128 characters, other types: by every call."""
    calls: dict[str, Callable[[Any], object]] = {
        "chat_id": lambda bad: any_spool.enqueue(bad, "hello"),
        "request_id": lambda bad: any_spool.enqueue(CHAT, "hello", request_id=bad),
        "owner": lambda bad: any_spool.enqueue(CHAT, "hello", owner=bad),
        "generation_id": lambda bad: any_spool.stop(CHAT, bad),
        "tenant": any_spool.for_tenant,
        "until": lambda bad: any_spool.follow(CHAT, until=bad),
    }
    optional = {"request_id", "owner", "generation_id"}
    for kind, call in calls.items():
        for bad in BAD_IDS:
            if not (bad is None and kind in optional):
                assert_rejected(client, InvalidId, f"{kind}=", partial(call, bad))


def test_every_call_checks_its_chat_id(any_spool: BlockingSpool, client: Redis) -> None:
    """Including calls that only read."""
    for call in (
        any_spool.read,
        any_spool.stop,
        any_spool.status,
        any_spool.snapshot,
        any_spool.erase,
        any_spool.follow,
    ):
        for bad in BAD_IDS:
            assert_rejected(client, InvalidId, "chat_id=", partial(call, bad))


def test_an_invalid_generation_id_is_rejected(any_spool: BlockingSpool, client: Redis) -> None:
    """By `produce` and by `revoke`."""
    for bad in BAD_IDS:
        assert_rejected(client, InvalidId, "generation_id=", partial(any_spool.run_producer, CHAT, bad, repr))
        assert_rejected(client, InvalidId, "generation_id=", partial(any_spool.revoke, bad))


def test_an_invalid_cursor_is_rejected(any_spool: BlockingSpool, client: Redis) -> None:
    """Negative, fractional, boolean, beyond what Lua can count, no number at all."""
    for bad in (-1, 1.0, 0.5, True, "x", "-1", "1.", "", 2**60, 10**5000, math.nan, [1]):
        for call in (any_spool.read, any_spool.follow):
            assert_rejected(client, InvalidCursor, "pass the seq of the last event", partial(call, CHAT, bad))


def test_a_cursor_ahead_of_the_log_is_rejected(any_spool: BlockingSpool, client: Redis) -> None:
    """It belongs to another chat, and following it would skip events: the message has the last seq."""
    last = any_spool.status(CHAT).last
    assert any_spool.read(CHAT, last) == []
    for call in (any_spool.read, any_spool.follow):
        assert_rejected(client, CursorAhead, f"whose last seq is {last}", partial(call, CHAT, last + 1))


def test_an_invalid_limit_is_rejected(any_spool: BlockingSpool, client: Redis) -> None:
    """It must be from 1 to 10,000 entries."""
    for bad in (0, -1, 1.5, True, 10_001, "1", None, 10**5000):
        assert_rejected(
            client, InvalidInput, "pass a whole number from 1 to 10000", partial(any_spool.read, CHAT, 0, bad)
        )


def test_an_invalid_reason_is_rejected(any_spool: BlockingSpool, client: Redis) -> None:
    """Every reader gets it in an event: a text of at most 500 characters."""
    made = any_spool.enqueue(CHAT, "hello")
    for bad in (1, b"tired", ["tired"], "x" * 501):
        for generation_id in (None, made.generation_id):
            call = partial(any_spool.stop, CHAT, generation_id, reason=bad)
            assert_rejected(client, InvalidRequest, "reason must be a text of at most 500 characters", call)
    assert any_spool.status(CHAT).active == (made.generation_id,)


def test_half_a_surrogate_pair_in_a_reason_is_replaced(any_spool: BlockingSpool) -> None:
    """The stop is not rejected; the half is replaced as in a model's text."""
    any_spool.enqueue(CHAT, "hello")
    any_spool.stop(CHAT, reason="no\ud83d")
    assert any_spool.follow(CHAT)[-1].event.reason == "no�"


def test_an_invalid_wait_is_rejected(any_spool: BlockingSpool, client: Redis) -> None:
    """NaN would wait forever."""
    made = any_spool.enqueue(CHAT, "hello")
    for bad in (-1, math.nan, True, "1", None):
        call = partial(any_spool.run_producer, CHAT, made.generation_id, repr, wait=bad)
        assert_rejected(client, InvalidInput, "pass seconds, from 0 up", call)


def test_an_unknown_generation_is_rejected(any_spool: BlockingSpool, client: Redis) -> None:
    """It is told apart from an unknown chat, and asking creates neither."""
    for call in (
        lambda: any_spool.stop(CHAT, "unknown"),
        lambda: any_spool.follow(CHAT, until="unknown"),
        lambda: any_spool.run_producer(CHAT, "unknown", repr),
    ):
        assert_rejected(client, GenerationNotFound, "'unknown'", call)
    assert any_spool.revoke("unknown") is None


def test_input_just_within_the_limits_is_accepted(any_spool: BlockingSpool) -> None:
    """An id of 128 characters, a prompt of max_request_bytes, deeply nested parameters."""
    frame = len('{"messages":[{"role":"user","content":""}],"model":null,"params":{}}')
    longest = "x" * 128
    made = any_spool.enqueue(longest, "x" * (LIMIT - frame), request_id=longest, owner=longest, ttl=1)
    assert any_spool.status(longest).generations[0].owner == longest
    assert made.chat_id == longest
    deep = any_spool.enqueue(CHAT, "hello", params={"x": nested(150), "y": 10**30}, model="m" * 200)
    producer = any_spool.run_producer(CHAT, deep.generation_id, repr)
    assert producer.request.params == {"x": nested(150), "y": 10**30}


def test_a_request_id_belongs_to_one_request(any_spool: BlockingSpool, client: Redis) -> None:
    """Another prompt under it is an error that names the first generation; a key of an older version proves nothing."""
    made = any_spool.enqueue(CHAT, "hello", request_id="-r")
    before = read_contents(client)
    with pytest.raises(RequestIdReused) as refused:
        any_spool.enqueue(CHAT, "another", request_id="-r")
    assert refused.value.generation_id == made.generation_id
    assert read_contents(client) == before
    client.set(KEYS.request("-r"), f"{made.generation_id} {made.after}", keepttl=True)
    assert any_spool.enqueue(CHAT, "another", request_id="-r") == made
