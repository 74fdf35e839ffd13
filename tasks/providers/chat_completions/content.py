"""Reads what a delta or a message says, in all the shapes that servers give to text and reasoning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from chunkspool.provider import Reasoning, Text
from chunkspool.tasks.providers.json_values import object_in, text_in

_MAX_DEPTH = 8
"""How deep parts may lie in each other. Two or three levels are seen."""
_REASONING_FIELDS = dict.fromkeys(
    ("reasoning_content", "reasoning", "thinking", "reasoning_details", "thinking_blocks")
)
# Where the text of a part may be. A part of the type "thinking" holds further parts under this name, or a text.
_TEXT_FIELDS = ("text", "value", "refusal", "thinking", "reasoning", "summary", "content")
_REASONING_TYPES = ("reasoning", "thinking")


def read_content(delta: Mapping[str, Any]) -> list[Text | Reasoning]:
    """Return the reasoning and the text of a delta, or of a whole message."""
    said: list[Text | Reasoning] = []
    if not _REASONING_FIELDS.keys().isdisjoint(delta):
        # Several names may hold the same reasoning: one counts.
        thoughts = (_join(delta[name]) for name in _REASONING_FIELDS if name in delta)
        said += (Reasoning(thought) for thought in [next(filter(None, thoughts), "")] if thought)
    content = delta.get("content")
    if isinstance(content, str):
        said += (Text(content),) if content else ()
    elif content:
        said += _read_parts(content)
    if "audio" in delta:  # spoken words come with their text
        said += (Text(text) for text in [text_in(object_in(delta["audio"]).get("transcript"))] if text)
    # A model that refuses says so here, instead of in `content`.
    if refusal := _join(delta.get("refusal")):
        said.append(Text(refusal))
    return said


def _read_parts(content: object) -> Iterator[Text | Reasoning]:
    for part in content if isinstance(content, list) else [content]:
        if text := _join(part):
            yield Reasoning(text) if _is_reasoning(part) else Text(text)


def _is_reasoning(part: object) -> bool:
    return isinstance(part, dict) and text_in(part.get("type")).startswith(_REASONING_TYPES)


def _join(value: object, depth: int = 0) -> str:
    """Return all text in a text, a part or a list of these."""
    if isinstance(value, str):
        return value
    if depth == _MAX_DEPTH:
        return ""
    if isinstance(value, list):
        return "".join(_join(item, depth + 1) for item in value)
    if isinstance(value, dict):
        found = (_join(value.get(name), depth + 1) for name in _TEXT_FIELDS if name in value)
        return next(filter(None, found), "")
    return ""
