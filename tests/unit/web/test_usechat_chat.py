"""A chat as UI messages, of what its log has: whatever any client has written there."""

from __future__ import annotations

from typing import Any

import pytest

from chunkspool import conversation, fold
from chunkspool.dialects.usechat_chat import Chat
from chunkspool.dialects.usechat_logged import continued_by, output_of, shown_as
from chunkspool.events import Event, GenerationQueued, MessageEvent


def message(generation_id: str, message_id: str, role: str = "user", content: Any = "x", **more: Any) -> MessageEvent:
    """Return the event of a message."""
    fields = {"generation": generation_id, "id": message_id, "role": role, "content": content, **more}
    return MessageEvent.model_validate(fields, by_alias=True, by_name=False)


def queued(generation_id: str, replaces: str | None = None) -> GenerationQueued:
    """Return the event of a generation."""
    return GenerationQueued(generation_id=generation_id, replaces=replaces)


CONTINUES = {"role": "assistant", "parts": [], "continues": True}


def ids_of(*events: Event) -> list[str]:
    """Return the ids of the chat's messages."""
    page = Chat(conversation(fold(events)), {}, is_whole=True).find_page(None, None)
    assert page is not None
    return [one.id for one in page.messages]


@pytest.mark.parametrize(
    "ui",
    [
        "x",
        7,
        [],
        {},
        {"parts": 1},
        {"role": "root", "parts": []},
        {"role": "user", "parts": [1]},
        {"role": "user", "id": "x" * 5000, "parts": []},
        {"continues": True},
        {"continues": True, "role": "user", "parts": []},
        {"role": "assistant", "parts": [], "continues": "yes"},
        {"part_of": 7},
        {"role": "user", "parts": [{"type": "file", "mediaType": "x"}, {"type": None}]},
        {"role": "assistant", "id": "nobody's", "parts": [{"type": "tool-x", "toolCallId": 1}], "continues": True},
    ],
)
@pytest.mark.parametrize("role", ["user", "assistant", "tool", "root"])
def test_a_forged_message_costs_itself(ui: Any, role: str) -> None:
    """It is shown as what can be made of it, or not at all; what stands around it is there."""
    forged = message("g2", "m2", role, ui=ui)
    found = ids_of(message("g1", "m1"), queued("g1"), forged, queued("g2"), message("g3", "m3"), queued("g3"))
    assert (found[:2], found[-2:]) == (["m1", "g1"], ["m3", "g3"])
    assert len(found) in {5, 6}


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        [],
        [1, "x"],
        [{"type": "text"}],
        [{"type": "image_url", "image_url": 7}],
        [{"type": "file", "file": {}}],
    ],
)
def test_a_content_that_is_none_has_no_parts(content: Any) -> None:
    """The user's message is there all the same."""
    shown = shown_as(message("g1", "m1", content=content))
    assert shown is not None
    assert shown.parts == ([{"type": "text", "text": ""}] if content == "" else [])


@pytest.mark.parametrize(
    ("part", "file"),
    [
        ({"type": "image_url", "image_url": {"url": "data:image/gif;base64,AA"}}, {"mediaType": "image/gif"}),
        ({"type": "image_url", "image_url": {"url": "data:,x"}}, {"mediaType": "image/*"}),
        ({"type": "image_url", "image_url": {"url": "https://a.example/b.png"}}, {"mediaType": "image/*"}),
        (
            {"type": "file", "file": {"file_data": "DATA:a/b,x", "filename": "f"}},
            {"mediaType": "a/b", "filename": "f"},
        ),
        ({"type": "file", "file": {"file_data": "x", "filename": 7}}, {"mediaType": "application/octet-stream"}),
    ],
)
def test_files_of_other_clients_are_files(part: dict[str, Any], file: dict[str, Any]) -> None:
    """With the type that their URL names; they come first, as the SDK sends them."""
    shown = shown_as(message("g1", "m1", content=[{"type": "text", "text": "see"}, part]))
    assert shown is not None
    url = next(iter(part[part["type"]].values()))
    assert shown.parts == [{"type": "file", **file, "url": url}, {"type": "text", "text": "see"}]


def test_a_file_that_the_app_has_taken_out_is_not_shown() -> None:
    """A hook may have changed the message; how it is shown has no URLs of its own."""
    slim = {"id": "m1", "role": "user", "parts": [{"type": "file", "mediaType": "a/b", "filename": "c"}]}
    shown = shown_as(message("g1", "m1", content="removed", ui=slim))
    assert shown is not None
    assert shown.parts == []


@pytest.mark.parametrize("said", ["x", "y"])
def test_a_message_that_comes_again_at_the_end_is_another_one(said: str) -> None:
    """Only `replaces` takes a turn away. The newest has the id: an edit means that one."""
    assert ids_of(
        *(message("g1", "m1"), queued("g1"), message("g2", "m2"), queued("g2")),
        *(message("g3", "m1", content=said), queued("g3")),
    ) == ["g1.1", "g1", "m2", "g2", "m1", "g3"]


ODD_IDS: list[list[Event]] = [
    [message("g1", "m"), queued("g1"), message("g2", "m", content="y"), message("g2", "m"), queued("g2")],
    [message("g1", "m"), queued("g1"), message("g2", "g1"), queued("g2"), message("g3", "g1"), queued("g3")],
    [message("g1", "g3"), queued("g1"), message("g2", "g1.1"), queued("g2"), message("g3", "m"), queued("g3")],
    [message("g1", "m"), queued("g1"), message("g2", "g1.1"), queued("g2"), message("g3", "m"), queued("g3")],
    [message("g1", "g1", "assistant"), message("g1", "m"), queued("g1"), message("g2", "m"), queued("g2")],
    [
        *(message("g1", "m"), queued("g1"), message("g2", "x", "assistant", ui={"id": "m", **CONTINUES}), queued("g2")),
        *(message("g3", "m"), queued("g3")),
    ],
    [
        *(message("g1", "m"), queued("g1"), message("g2", "x", "assistant", ui={"id": "", **CONTINUES}), queued("g2")),
        *(message("g3", "x", "assistant", ui={"id": "", **CONTINUES}), queued("g3")),
    ],
]
"""Messages whose ids are those of other messages, or of answers."""


@pytest.mark.parametrize("events", ODD_IDS)
def test_every_turn_is_shown_under_ids_of_its_own(events: list[Event]) -> None:
    """Whatever ids its messages were given; a page that is read from its end has the same ones."""
    turns = conversation(fold(events))
    found = ids_of(*events)
    asked = [one for turn in turns for one in turn.messages if not (one.model_extra or {}).get("ui")]
    assert len(found) == len(set(found)) == len(asked) + len(turns)
    assert all(found)
    for size in range(2, len(turns) + 1):
        chat = Chat(turns[-size:], {}, is_whole=False, answer_ids=[turn.answer.generation_id for turn in turns])
        page = chat.find_page(None, len(turns[-1].messages))
        assert page is None or [one.id for one in page.messages] == found[-len(page.messages) :]


def test_a_message_that_is_sent_along_is_there_once() -> None:
    """With the one that is new: its own answer has said nothing."""
    assert ids_of(message("g1", "m1"), queued("g1"), message("g2", "m1"), message("g2", "m2"), queued("g2")) == [
        "m1",
        "g1",
        "m2",
        "g2",
    ]


def test_a_message_that_is_continued_late_stays_in_its_place() -> None:
    """Version 7 of the SDK continues an earlier one when its tool is approved."""
    ui = {"id": "g1", "role": "assistant", "parts": [{"type": "step-start"}], "continues": True}
    events = [
        *(message("g1", "m1"), queued("g1"), message("g2", "m2"), queued("g2")),
        *(message("g3", "g3.1", "assistant", None, ui=ui), queued("g3")),
    ]
    chat = Chat(conversation(fold(events)), {}, is_whole=True)
    page = chat.find_page(None, None)
    assert page is not None
    assert [(one.id, one.answered_by, one.turn) for one in page.messages] == [
        ("m1", None, "g1"),
        ("g1", "g3", "g1"),
        ("m2", None, "g2"),
        ("g2", "g2", "g2"),
    ]
    assert continued_by([event for event in events if isinstance(event, MessageEvent)]) == page.messages[1].given


def test_a_users_message_is_not_continued() -> None:
    """Whoever forges that adds a message of their own."""
    ui = {"id": "m1", "role": "assistant", "parts": [], "continues": True}
    events = [message("g1", "m1"), queued("g1"), message("g2", "x", "assistant", None, ui=ui), queued("g2")]
    page = Chat(conversation(fold(events)), {}, is_whole=True).find_page(None, None)
    assert page is not None
    assert [(one.id, one.answered_by) for one in page.messages] == [("m1", None), ("g1", "g1"), ("g2", "g2")]


def test_without_the_earlier_turns_a_page_is_not_known() -> None:
    """Where the message of a part of the chat is continued that was not read, or where more is wanted."""
    ui = {"id": "g0", "role": "assistant", "parts": [], "continues": True}
    first = [message("g1", "m1"), queued("g1")]
    plain = [*first, message("g2", "m2"), queued("g2")]
    assert Chat(conversation(fold(plain)), {}, is_whole=False).find_page(None, 2) is None
    page = Chat(conversation(fold(plain)), {}, is_whole=False).find_page(None, 1)
    assert page is not None
    assert [one.id for one in page.messages] == ["g2"]
    late = [*plain, message("g3", "x", "assistant", None, ui=ui), queued("g3")]
    assert Chat(conversation(fold(late)), {}, is_whole=False).find_page(None, 1) is None
    assert Chat(conversation(fold(late)), {}, is_whole=True).find_page(None, 1) is not None


@pytest.mark.parametrize(
    ("role", "content", "expected"),
    [
        ("tool", '{"a": 1}', {"a": 1}),
        ("tool", "noon", "noon"),
        ("tool", [{"type": "text", "text": "x"}], [{"type": "text", "text": "x"}]),
        ("tool", None, None),
    ],
)
def test_a_tools_output_is_what_it_says(role: str, content: Any, expected: Any) -> None:
    """JSON where it is JSON."""
    output = output_of(message("g1", "m1", role, content, tool_call_id="1"))
    assert output is not None
    assert (output.call_id, output.output) == ("1", expected)
    assert output_of(message("g1", "m1", "user", content, tool_call_id="1")) is None
    assert output_of(message("g1", "m1", role, content, tool_call_id=1)) is None
