"""Errors form one hierarchy in one module, survive pickling, and have messages that say what to do."""

from __future__ import annotations

import inspect
import pickle
import re
from typing import Any

import pytest

from chunkspool import errors
from chunkspool.errors import ChunkspoolError, shown

MADE: dict[str, ChunkspoolError] = {
    "InvalidId": errors.InvalidId("chat_id", "a/b"),
    "RequestTooLarge": errors.RequestTooLarge(20, 10),
    "RequestIdReused": errors.RequestIdReused("chat", "mine", "g"),
    "EventTooLarge": errors.EventTooLarge(20, 10),
    "InvalidCursor": errors.InvalidCursor(-1),
    "ChatNotFound": errors.ChatNotFound("chat"),
    "GenerationNotFound": errors.GenerationNotFound("chat", "one"),
    "DigestUnfinished": errors.DigestUnfinished("chat", 5, 9),
    "ChatBusy": errors.ChatBusy("chat", ("one", "two")),
    "LimitExceeded": errors.LimitExceeded("active", "32 are active: wait", retry_after=1.5),
    "ChatContended": errors.ChatContended("chat", "be erased"),
    "EnqueueFailed": errors.EnqueueFailed("chat", "one", "away"),
    "BrokerRefused": errors.BrokerRefused("chat", "one", "no right", "+lpush"),
    "RightMissing": errors.RightMissing("no right", "+xadd"),
    "OutcomeGroupDropped": errors.OutcomeGroupDropped("acme", "billing", 1, 7),
    "CursorExpired": errors.CursorExpired(3, 7, 9),
    "CursorAhead": errors.CursorAhead(9, 3),
    "CorruptLog": errors.CorruptLog(7, "it is not JSON"),
    "LogRolledBack": errors.LogRolledBack("one"),
    "SpoolClosed": errors.SpoolClosed(),
    "ServerShuttingDown": errors.ServerShuttingDown(),
    "ExtraMissing": errors.ExtraMissing("langchain", "langchain_core"),
    "NotClaimed": errors.NotClaimed("one", "held"),
    "ProviderError": errors.ProviderError("rate_limit", "Too busy.", retryable=True),
    "ContinuationRefused": errors.ContinuationRefused("refused", "It cannot.", retryable=False),
}
"""Errors that take more than a message."""


def family(parent: type[ChunkspoolError] = ChunkspoolError) -> list[type[ChunkspoolError]]:
    """Return `parent` and all its subclasses, each after its parent, in definition order; without those of tests."""
    ours = [child for child in parent.__subclasses__() if child.__module__.startswith("chunkspool")]
    return [parent, *(one for child in ours for one in family(child))]


def tree() -> dict[str, str | None]:
    """Return the names in the tree drawn in the module's docstring, each with its parent's name."""
    path: list[str] = []
    parents: dict[str, str | None] = {}
    drawn = (errors.__doc__ or "").partition("\n\n")[2]
    for branch, name in re.findall(r"^([│├└─ ]*)(\w+)", drawn, re.MULTILINE):
        depth = len(branch) // 4
        path[depth:] = [name]
        parents[name] = path[depth - 1] if depth else None
    return parents


def test_the_docstring_draws_the_real_hierarchy() -> None:
    """Every error is drawn under its parent, and nothing else is drawn."""
    real = {kind.__name__: kind.__mro__[1].__name__ for kind in family()[1:]}
    assert tree() == {"ChunkspoolError": None} | real


def test_every_error_is_importable_from_one_module_and_documented() -> None:
    """All errors can be imported from one module, and each has a docstring."""
    for kind in family():
        assert getattr(errors, kind.__name__) is kind
        assert inspect.getdoc(kind), kind
        assert "__doc__" in vars(kind), kind


@pytest.mark.parametrize("kind", family(), ids=lambda kind: kind.__name__)
def test_errors_can_be_pickled(kind: type[ChunkspoolError]) -> None:
    """Process pools and Celery pickle errors: type, message and fields survive."""
    error = MADE[kind.__name__] if kind.__name__ in MADE else kind("a message")
    error.add_note("a note")
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        back: Any = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 - our own
        assert type(back) is kind
        assert (str(back), back.args, vars(back)) == (str(error), error.args, vars(error))


def test_messages_say_what_happened_and_what_to_do() -> None:
    """Messages are written for people: they use ids the reader knows and suggest the next step."""
    said = {name: str(error) for name, error in MADE.items()}
    assert "'a/b' is not a valid id: use 1 to 128 characters" in said["InvalidId"]
    assert "pass the seq of the last event you have" in said["InvalidCursor"]
    assert "'chat' does not exist" in said["ChatNotFound"]
    assert "busy with generation one, two: wait for it, or enqueue with on_active=" in said["ChatBusy"]
    assert "changes too fast to be erased: stop its generations first" in said["ChatContended"]
    assert "read up to event 5 of 9 in the time given: try again, it goes on from there" in said["DigestUnfinished"]
    assert "check the broker, then enqueue again: away" in said["EnqueueFailed"]
    assert (
        "rejected the message of generation one in chat 'chat'; trying again will not help: no" in said["BrokerRefused"]
    )
    assert "events 7 to 9 are kept; continue from cursor 6" in said["CursorExpired"]
    assert "no event up to 9 is kept; continue from cursor 9" in str(errors.CursorExpired(3, 10, 9))
    assert "whose last seq is 3; start again from 0" in said["CursorAhead"]
    assert "event 7 cannot be read: it is not JSON" in said["CorruptLog"]
    assert "a key of the chat cannot be read" in str(errors.CorruptLog(None, "why"))


def test_a_busy_chat_names_a_few_generations_only() -> None:
    """Whoever asks in a chat with thousands is told five ids, and how many there are."""
    error = errors.ChatBusy("chat", tuple(f"{n:036}" for n in range(6000)))
    assert (len(error.active), error.count) == (5, 6000)
    assert "and 5995 more: wait for it" in str(error)
    assert len(str(error)) < 500


def test_wrong_input_is_a_value_error() -> None:
    """Code that does not know chunkspool can catch it."""
    for kind in family(errors.InvalidInput):
        assert issubclass(kind, ValueError)


def test_quoted_values_are_shortened() -> None:
    """Whatever value was passed in."""
    for value in ("x" * 10_000, 10**5000, b"x" * 10_000, ["x" * 100] * 100):
        assert len(shown(value)) <= 60
