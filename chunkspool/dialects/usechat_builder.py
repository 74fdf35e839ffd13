"""Builds the message that the AI SDK's client builds of the same chunks, for a page that was not there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from chunkspool.dialects.usechat_chunks import Chunk
from chunkspool.dialects.usechat_messages import UiMessage, UiPart, is_tool

FIRST_TO_KEEP_INPUTS = 7
"""The first major version of the SDK that keeps arguments that are no JSON as `input`; before it, it is `rawInput`."""


class MessageBuilder:
    """An assistant's message that grows by the chunks of `UseChatEncoder`; it takes no others."""

    def __init__(self, continued: UiMessage | None = None, *, sdk: int) -> None:
        """Begin with a message that is continued, or with none."""
        self._sdk = sdk
        self._id = continued.id if continued else ""
        self._metadata = continued.metadata if continued else None
        self._parts: list[UiPart] = [dict(part) for part in continued.parts] if continued else []
        self._open: dict[str, UiPart] = {}
        # Where the newest call of each id stands, and where the newest step begins.
        self._calls = {part["toolCallId"]: at for at, part in enumerate(self._parts) if is_tool(part)}
        steps = (at for at, part in enumerate(self._parts) if part.get("type") == "step-start")
        self._step = max(steps, default=-1)

    def take(self, chunks: Iterable[Chunk]) -> UiMessage:
        """Apply the chunks; return the message."""
        for chunk in chunks:
            self._take(chunk)
        return UiMessage(id=self._id, role="assistant", metadata=self._metadata, parts=self._parts)

    def _take(self, chunk: Chunk) -> None:
        kind = chunk["type"]
        if kind in {"start", "message-metadata"}:
            self._id = chunk.get("messageId", self._id)
            self._metadata = _merge(self._metadata, chunk["messageMetadata"])
        elif kind == "start-step":
            self._step = len(self._parts)
            self._parts.append({"type": "step-start"})
        elif kind.startswith(("text-", "reasoning-")):
            self._take_text(kind, chunk)
        elif kind.startswith("tool-"):
            self._take_tool(kind, chunk)
        elif kind.startswith(("data-", "source-")) or kind == "file":
            self._parts.append(chunk)

    def _take_text(self, chunk_type: str, chunk: Chunk) -> None:
        kind, step = chunk_type.split("-")
        if step == "start":
            # A reasoning part keeps its id, a text part does not.
            own = {"id": chunk["id"]} if kind == "reasoning" else {}
            self._open[chunk["id"]] = {"type": kind, **own, "text": "", "state": "streaming"}
            self._parts.append(self._open[chunk["id"]])
        elif step == "delta":
            self._open[chunk["id"]]["text"] += chunk["delta"]
        else:
            self._open.pop(chunk["id"])["state"] = "done"

    def _take_tool(self, kind: str, chunk: Chunk) -> None:
        if kind == "tool-output-available":
            self._answer(self._find_tool(chunk["toolCallId"]), chunk["output"])
            return
        part: UiPart = {"type": f"tool-{chunk['toolName']}", "toolCallId": chunk["toolCallId"]}
        if kind == "tool-input-available":
            part.update(state="input-available", input=chunk["input"])
        else:
            kept_as = "input" if self._sdk >= FIRST_TO_KEEP_INPUTS else "rawInput"
            part.update({"state": "output-error", kept_as: chunk["input"], "errorText": chunk["errorText"]})
        self._replace_in_step(part)

    def _replace_in_step(self, part: UiPart) -> None:
        """Add a call; one of the same id in the same step is the same call."""
        at = self._calls.get(part["toolCallId"], -1)
        if at > self._step:
            self._parts[at] = part
        else:
            self._calls[part["toolCallId"]] = len(self._parts)
            self._parts.append(part)

    def _answer(self, part: UiPart, output: Any) -> None:
        part.update(state="output-available", output=output)
        for only_of_errors_and_drafts in ("errorText", "rawInput", "preliminary"):
            part.pop(only_of_errors_and_drafts, None)

    def _find_tool(self, call_id: str) -> UiPart:
        return self._parts[self._calls[call_id]]


def _merge(base: Any, new: Any) -> Any:
    """Merge metadata as the SDK does: objects deeply, all else is replaced."""
    if not isinstance(base, dict) or not isinstance(new, dict):
        return new
    return {**base, **{key: _merge(base.get(key), value) for key, value in new.items()}}
