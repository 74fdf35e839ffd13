"""What the AI SDK's client builds from a UI message stream, modelled in Python as strictly as the original."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from support.web.sse import events_of

from chunkspool.dialects.usechat_chunks import RESTART

Part = dict[str, Any]


def parts_of(stream: bytes) -> list[Part]:
    """Return a stream's parts without its [DONE], which must be last."""
    datas = [event.data for event in events_of(stream)]
    assert "[DONE]" not in datas[:-1]
    return [json.loads(data) for data in datas if data != "[DONE]"]


class ClientMessage:
    """A message that grows."""

    def __init__(self) -> None:
        """Start empty."""
        self.id: str | None = None
        self.metadata: dict[str, Any] = {}
        self.parts: list[Part] = []
        self.finish_reason: str | None = None
        self.error: str | None = None
        self.aborted = False
        self._open: dict[str, Part] = {}

    def take(self, parts: Iterable[Part]) -> ClientMessage:
        """Apply parts; fail where the SDK would give up on the stream."""
        for part in parts:
            self._take(part)
        return self

    def _take(self, part: Part) -> None:  # noqa: C901, PLR0912 - one case a type, as in the original
        kind = part["type"]
        if kind == "start":
            self.id = part.get("messageId", self.id)
        elif kind in {"text-start", "reasoning-start"}:
            made = {"type": kind.removesuffix("-start"), "text": "", "state": "streaming"}
            self._open[part["id"]] = made
            self.parts.append(made)
        elif kind in {"text-delta", "reasoning-delta"}:
            self._open[part["id"]]["text"] += part["delta"]
        elif kind in {"text-end", "reasoning-end"}:
            self._open.pop(part["id"])["state"] = "done"
        elif kind == "start-step":
            self.parts.append({"type": "step-start"})
        elif kind == "finish-step":
            self._open.clear()
        elif kind == "tool-input-delta":
            (tool,) = [p for p in self.parts if p.get("toolCallId") == part["toolCallId"]]
            tool["input"] = json.loads(part["inputTextDelta"])
        elif kind in {"tool-input-start", "tool-input-available", "tool-input-error"}:
            tool = {key: value for key, value in part.items() if key != "type"}
            self.parts.append({"type": f"tool-{part['toolName']}", "output": None, **tool})
        elif kind == "tool-output-available":
            step = max(i for i, p in enumerate(self.parts) if p["type"] == "step-start")
            (tool,) = [p for p in self.parts[step:] if p.get("toolCallId") == part["toolCallId"]]
            tool["output"] = part["output"]
        elif kind == "reset-step":
            del self.parts[max(i for i, p in enumerate(self.parts) if p["type"] == "step-start") + 1 :]
            self._open.clear()
        elif kind.startswith("data-") or kind in {"source-url", "source-document", "file"}:
            self.parts.append(part)
        elif kind == "finish":
            self.finish_reason = part["finishReason"]
        elif kind == "error":
            self.error = part["errorText"]
        else:
            assert kind in {"abort", "message-metadata"}, kind
            self.aborted = self.aborted or kind == "abort"
        self.metadata.update(part.get("messageMetadata", {}))

    def visible(self) -> list[Part]:
        """Return the parts that no restart has made void: what the docs tell a front end to show."""
        restarts = [(part["data"].get("from", 0), at) for at, part in enumerate(self.parts) if part["type"] == RESTART]
        return [part for i, part in enumerate(self.parts) if not any(begin <= i <= at for begin, at in restarts)]
