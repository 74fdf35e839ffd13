"""Ids become part of Redis keys: an id that could break out of its key is rejected before anything is written."""

from __future__ import annotations

import pytest

from chunkspool.errors import InvalidId
from chunkspool.ids import checked_id

BAD = [
    "",
    "a{b",
    "a}b",
    "a/b",
    "a b",
    "tab\t",
    "nul\0",
    "new\n",
    "ü",
    ".x",
    "..",
    ":x",
    "~x",
    "=x",
    "x" * 129,
    None,
    7,
    b"bytes",
]


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("kind", ["tenant", "chat_id", "request_id", "generation_id"])
def test_an_id_that_could_break_a_key_is_rejected(kind: str, value: object) -> None:
    """Braces, slashes, control characters, non-ASCII, other types and over 128 characters raise InvalidId."""
    with pytest.raises(InvalidId) as caught:
        checked_id(kind, value)
    assert kind in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        "a",
        "7",
        "-V1StGXR8_Z5jdHi6B",
        "--x",
        "-",
        "user@example.org",
        "chat:42",
        "x" * 128,
        "01a20fd8-8742-77ce-a941-3e73ab581b06",
    ],
)
def test_common_kinds_of_ids_are_accepted(value: str) -> None:
    """UUIDs, nanoids, email addresses and names with colons are valid ids."""
    assert checked_id("chat_id", value) == value


def test_a_tenant_cannot_reach_into_another_tenants_keys() -> None:
    """A tenant may not contain a colon: cs:<tenant>:owner:<owner> has no braces to separate them."""
    with pytest.raises(InvalidId):
        checked_id("tenant", "a:owner")
