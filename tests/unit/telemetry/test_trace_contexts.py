"""A trace's context is read as W3C Trace Context says, and whatever else is sent is ignored."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkspool.errors import Fenced, ProviderError, Stopped
from chunkspool.tracer import MAX_STATE, TraceContext, error_type_of, plain_name

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


def test_a_context_is_read_and_stored() -> None:
    """Both headers; what is stored with a generation says the same."""
    found = TraceContext.parse(PARENT, "vendor=1,other@tenant=a b")
    assert found == TraceContext(TRACE, SPAN, "01", "vendor=1,other@tenant=a b")
    assert TraceContext.stored(found.encode()) == found
    assert TraceContext.stored(TraceContext(TRACE, SPAN, "00").encode()) == TraceContext(TRACE, SPAN, "00")


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    """Versions after 00 may have more behind the flags; what we pass on is of version 00."""
    found = TraceContext.parse(f"01-{TRACE}-{SPAN}-01-more")
    assert found
    assert found.encode() == PARENT


@pytest.mark.parametrize(
    "hostile",
    [
        "",
        "x" * 1_000_000,
        PARENT.upper(),
        f"{PARENT}-more",
        f"{PARENT}\n",
        f" {PARENT}",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE[:-1]}\u0661-{SPAN}-01",
        f"01-{TRACE}-{SPAN}-01-{'x' * 300}",
    ],
)
def test_what_is_no_context_is_ignored(hostile: str) -> None:
    """Whatever its length, its letters or its ids of zeros."""
    assert TraceContext.parse(hostile) is None
    assert TraceContext.stored(hostile) is None


@pytest.mark.parametrize(
    "hostile",
    ["no equals sign", "a=1,,b=2", "A=1", "a=\x00", "a=1\r\nx: y", "a=é", f"a={'x' * MAX_STATE}", "a=1," * 40],
)
def test_a_state_that_is_none_is_left_out(hostile: str) -> None:
    """The trace goes on without it."""
    assert TraceContext.parse(PARENT, hostile) == TraceContext(TRACE, SPAN, "01")


@given(st.text(), st.text())
def test_nothing_raises_and_what_is_stored_is_short(parent: str, state: str) -> None:
    """For any text."""
    found = TraceContext.parse(parent, state) or TraceContext.parse(PARENT, state)
    assert found
    assert len(found.encode()) <= 55 + 1 + MAX_STATE
    assert TraceContext.stored(found.encode()) == found


def test_an_error_is_a_code_or_a_class() -> None:
    """Never its message; and what ends a generation in order is no error."""
    assert error_type_of(ProviderError("rate_limited", "secret", retryable=True)) == "rate_limited"
    assert error_type_of(ProviderError("se cret", "x", retryable=True)) == "chunkspool.errors.ProviderError"
    assert error_type_of(ValueError("secret")) == "ValueError"
    for orderly in (Stopped("x"), Fenced("x"), asyncio.CancelledError(), GeneratorExit()):
        assert error_type_of(orderly) is None


def test_a_name_is_no_text() -> None:
    """A model's name is kept, a sentence in its place is not."""
    assert plain_name("gpt-4o:mini/2024@eu") == "gpt-4o:mini/2024@eu"
    assert [plain_name(one) for one in ("a sentence", "", "x" * 61, None, 5)] == [None] * 5
