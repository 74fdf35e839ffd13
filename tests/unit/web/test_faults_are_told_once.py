"""What is wrong with a request's body is said once for each field, in words of the request."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from chunkspool.request import explain
from chunkspool.web.schemas import AskBody, ForkBody, StopBody

ID = "it must be an id: 1 to 128 of A-Z a-z 0-9 _ . : @ ~ + = -, and the first is none of . : @ ~ + ="
TEXT = "Input should be a valid string"
FAULTS: list[tuple[type[BaseModel], dict[str, Any], str]] = [
    (AskBody, {"prompt": "x", "replaces": "§"}, f"replaces: {ID}"),
    (AskBody, {"prompt": " ", "replaces": 7}, f"prompt: it must not be blank; replaces: {TEXT}"),
    (AskBody, {"prompt": "x", "history": "yes"}, "history: Input should be a valid boolean"),
    (AskBody, {"messages": "x"}, "messages: Input should be a valid list"),
    (AskBody, {"messages": [{"role": "user", "content": 5}]}, f"messages.0.content: {TEXT} or a valid list"),
    (
        AskBody,
        {"messages": [{"role": "user", "content": [5]}]},
        "messages.0.content.0: Input should be a valid dictionary",
    ),
    (StopBody, {"generation": "", "reason": 5}, f"generation: {ID}; reason: {TEXT}"),
    (ForkBody, {"to": "x", "at": {}}, "at: Input should be a valid integer or a valid string"),
    (ForkBody, {"to": "x", "at": 0}, "at: Input should be greater than or equal to 1"),
    (ForkBody, {"to": "x", "at": "9" * 60}, "at: String should have at most 50 characters"),
]


@pytest.mark.parametrize(
    ("body", "sent", "said"), FAULTS, ids=lambda value: None if isinstance(value, type) else str(value)[:40]
)
def test_one_fault_for_a_field(body: type[BaseModel], sent: dict[str, Any], said: str) -> None:
    """Neither that it may be absent, nor the names that a checker has for its types."""
    with pytest.raises(ValidationError) as caught:
        body.model_validate(sent)
    assert explain(caught.value) == said
