"""What a script puts together from pieces is the event that the library would write, whatever the id is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import to_json

from chunkspool.events import GenerationStarted, encode
from chunkspool.ids import ID_PATTERN
from chunkspool.store.scripts import started_pieces


@pytest.mark.parametrize("generation_id", ["01a20faf-a4ce-7368-9ecd-4b9876543210", "987654321", "g"])
@pytest.mark.parametrize("continues", [False, True])
def test_the_start_of_an_attempt(generation_id: str, *, continues: bool) -> None:
    """Also for an id that contains any number one might have used as a mark."""
    before, between, after = started_pieces(generation_id, continues=continues)
    for attempt, model in ((1, None), (2, "a model"), (987654321, "987654321"), (1000, 'a "quoted" ü\n')):
        whole = before + b"%d" % attempt + between + to_json(model) + after
        event = GenerationStarted(generation_id=generation_id, attempt=attempt, model=model, continues=continues)
        assert whole == encode(event)


@given(st.from_regex(ID_PATTERN, fullmatch=True))
def test_any_id(generation_id: str) -> None:
    """Whatever can be an id."""
    before, between, after = started_pieces(generation_id, continues=False)
    assert before + b"1" + between + b"null" + after == encode(
        GenerationStarted(generation_id=generation_id, attempt=1)
    )
