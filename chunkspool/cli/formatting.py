"""Formats what the command line prints: entries as JSON lines, events and states in words. Pure."""

from __future__ import annotations

from typing import assert_never

from chunkspool.events import (
    DataEvent,
    Ending,
    Entry,
    GenerationCompleted,
    GenerationFailed,
    GenerationQueued,
    GenerationStarted,
    GenerationStopped,
    MessageEvent,
    ToolCallEvent,
    ToolResultEvent,
    UnknownEvent,
    UsageEvent,
)
from chunkspool.json_text import to_valid_json
from chunkspool.results import ChatStatus, GenerationStatus

Remark = (
    MessageEvent
    | GenerationQueued
    | GenerationStarted
    | ToolCallEvent
    | ToolResultEvent
    | DataEvent
    | UsageEvent
    | Ending
    | UnknownEvent
)
"""Every event that is not a piece of text or reasoning."""

_HARMLESS = frozenset(map(ord, "\t\n"))
_PICTURES = {code: 0x2400 + code for code in range(0x20) if code not in _HARMLESS}
# A model's text must not command the terminal. Like ESC, the C1 controls (0x80 to 0x9F) begin such commands, and a
# lone CR lets a text overwrite the line before it.
_CONTROLS = {**_PICTURES, ord("\r"): None, 0x7F: 0x2421, **dict.fromkeys(range(0x80, 0xA0), 0xFFFD)}
# Nor may it turn round the line in which it stands. Hebrew and Arabic need none of these: their letters say themselves
# which way they run. Those that begin or end such a stretch become visible.
_TURNS = dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)), 0xFFFD)
# What shows nothing is dropped: marks of direction, the space without a width, the byte order mark and its like. Of the
# invisible ones, the joiners U+200C and U+200D stay, because Persian and emoji are made of them.
_MARKS = (0x061C, 0x200E, 0x200F)
_UNSEEN = dict.fromkeys((*_MARKS, 0x180E, 0x200B, *range(0x2060, 0x2066), *range(0x206A, 0x2070), 0xFEFF))
_SAFE = {**_CONTROLS, **_TURNS, **_UNSEEN, 0x2028: ord("\n"), 0x2029: ord("\n")}

_CUT_OFF = {
    "content_filter": "cut off by the provider's content filter",
    "refusal": "the model declined to go on",
}
_WITHHELD = {
    "content_filter": "the answer is empty: the provider's content filter withheld it",
    "refusal": "the answer is empty: the model declined to answer",
    "length": "the answer is empty: the maximum length was reached before it began",
}

_SECOND = 1000
_UNITS = ((86_400 * _SECOND, "d"), (3_600 * _SECOND, "h"), (60 * _SECOND, "min"))
_ROW = "{:<36}  {:<11}  {:>7}  {:>6}  {:>7}  {:>7}"


def plain(text: str) -> str:
    """Return `text` without what commands a terminal or turns a line round.

    Control characters become visible (␛), and so do those that turn a line (�). CR and what shows nothing are
    dropped; U+2028 and U+2029 become newlines.
    """
    return text.translate(_SAFE)


def one_line(text: str) -> str:
    """Return `text` as one line, made `plain`."""
    return " ".join(plain(text).splitlines())


def json_line(entry: Entry) -> bytes:
    """Return `{"seq": …, "type": …, …}` and a newline: the stored bytes with the seq added.

    The event is not decoded and encoded again, so numbers and fields of newer versions stay as they were written. If
    a foreign event has a `seq` of its own, the log's goes to the end: of two equal names parsers take the last.
    """
    # JSON strings hold a newline as the escape \n, so a raw one stands between tokens, where a space means the same.
    stored = entry.raw.replace(b"\n", b" ").replace(b"\r", b" ").strip()
    if "seq" in (entry.event.model_extra or {}):
        return b'%s,"seq":%d}\n' % (stored[:-1], entry.seq)
    return b'{"seq":%d,%s\n' % (entry.seq, stored[1:])


def describe_event(entry: Entry, event: Remark) -> str:  # noqa: PLR0911 - one return a type is what a match is for
    """Return one line about an `event` that is no text; `entry` is the entry that holds it."""
    match event:
        case MessageEvent():
            return f"{event.role}: {text_of(event)}"
        case GenerationQueued():
            return f"generation {event.generation_id} is queued"
        case GenerationStarted():
            return _describe_start(event)
        case ToolCallEvent():
            return f"calls the tool {event.name} ({event.id}): {event.arguments}"
        case ToolResultEvent():
            return f"tool result ({event.id}): {to_valid_json(event.output).decode()}"
        case DataEvent():
            return f"data {event.name}: {to_valid_json(event.value).decode()}"
        case UsageEvent():
            return f"{event.input_tokens} tokens in, {event.output_tokens} out"
        case GenerationCompleted() | GenerationStopped() | GenerationFailed():
            return _describe_ending(event)
        case UnknownEvent():
            return f"event {entry.seq} has an unknown type: {entry.raw.decode(errors='replace')}"
        case _:
            assert_never(event)


def text_of(message: MessageEvent) -> str:
    """Return the message as a text: of its parts, those that are none are named."""
    if not isinstance(message.content, list):
        return message.content or ""
    return "\n".join(_text_of_part(part) for part in message.content)


def _text_of_part(part: object) -> str:
    fields = part if isinstance(part, dict) else {}
    text = fields.get("text")
    return text if isinstance(text, str) else f"[{fields.get('type', 'part')}]"


def describe_emptiness(event: GenerationCompleted) -> str:
    """Return one line about an answer that says nothing."""
    return _WITHHELD.get(event.finish_reason, "the answer is empty")


def is_void(event: GenerationStarted) -> bool:
    """Tell whether this start makes the text of earlier attempts void."""
    return event.attempt > 1 and not event.continues


def status_lines(status: ChatStatus) -> list[str]:
    """Return the lines that `status` prints for people."""
    kept = f"seq {status.first} to {status.last}" if status.first <= status.last else f"nothing up to {status.last}"
    heading = _ROW.format("generation", "state", "attempt", "after", "age", "took")
    rows = (_row(generation, status.now) for generation in status.generations)
    return [f"chat {status.chat_id}: {kept} is kept{_how_long(status)}, {len(status.active)} active", heading, *rows]


def _how_long(status: ChatStatus) -> str:
    if status.pinned:
        return " for good"
    return "" if status.expires is None else f" for {duration(status.expires - status.now)}"


def duration(ms: int) -> str:
    """Return a time in its largest unit. A negative one counts as 0: clocks are sometimes set back."""
    for size, unit in _UNITS:
        if ms >= size:
            return f"{ms / size:.0f} {unit}"
    return f"{ms / 1000:.1f} s" if ms >= _SECOND else f"{max(ms, 0)} ms"


def _describe_start(event: GenerationStarted) -> str:
    model = f" with model {event.model}" if event.model else ""
    if event.attempt == 1:
        return f"started{model}"
    if event.continues:
        return f"attempt {event.attempt} continues from there{model}"
    return f"attempt {event.attempt} started{model}: the earlier text is void, the answer restarts"


def _describe_ending(ending: Ending) -> str:
    match ending:
        case GenerationCompleted():
            return _describe_finish(ending.finish_reason)
        case GenerationStopped():
            return f"stopped by {ending.by}" + (f": {ending.reason}" if ending.reason else "")
        case GenerationFailed():
            again = " Asking again may help." if ending.retryable else ""
            return f"failed ({ending.code}): {ending.message}{again}"
        case _:
            assert_never(ending)


def _describe_finish(reason: str) -> str:
    why = f": {_CUT_OFF[reason]}" if reason in _CUT_OFF else ""
    return "completed" if reason == "stop" else f"completed ({reason}){why}"


def _row(generation: GenerationStatus, now: int) -> str:
    end = generation.ended or now
    took = "-" if generation.started is None else duration(end - generation.started)
    age = duration(now - generation.created)
    return _ROW.format(generation.generation_id, _state(generation), generation.attempt, generation.after, age, took)


def _state(generation: GenerationStatus) -> str:
    return "stopping" if generation.state == "running" and generation.stop_asked else generation.state
