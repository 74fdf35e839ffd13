"""What a web user asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from pydantic import JsonValue

from chunkspool.request import GenerationRequest, Message
from chunkspool.states import OnActive, Priority


@dataclass(frozen=True, slots=True)
class AskedGeneration:
    """A generation as a web user asks for it, or as a hook lets it pass. The fields are those of `AsyncSpool.enqueue`.

    `owner`, `ttl`, `priority`, `expires` and `keep_messages` are never the user's; a hook may set them. Where a user
    asks for another version of an answer (`replaces`), there may be no messages: they are those of the first.
    `edits`: the user's message is only the new text of the question that `replaces` answers. What was asked with it
    (pictures, tool outputs) stays.

    `is_of_usechat`: the useChat views made the messages of what a front end has sent, and with them their `ui`. Nobody
    else sets it: of another client, a `ui` would be shown in place of what was said.
    """

    messages: tuple[Message, ...]
    model: str | None = None
    params: Mapping[str, JsonValue] = field(default_factory=dict)
    on_active: OnActive = "reject"
    request_id: str | None = None
    owner: str | None = None
    ttl: float | None = None
    priority: Priority = "interactive"
    expires: float | None = None
    replaces: str | None = None
    history: bool | None = None
    keep_messages: bool | None = None
    is_of_usechat: bool = False
    edits: bool = False

    @property
    def edit(self) -> str | None:
        """The new text of the question; None where the messages are what is asked, as they are."""
        last = self.messages[-1] if self.messages else None
        if not self.edits or last is None or last.role != "user" or not isinstance(last.content, str):
            return None
        is_alone = all(message.role in {"system", "developer"} for message in self.messages[:-1])
        return last.content if is_alone else None

    @classmethod
    def of(
        cls,
        request: GenerationRequest,
        *,
        on_active: OnActive,
        request_id: str | None,
        replaces: str | None = None,
        history: bool | None = None,
        is_of_usechat: bool = False,
        edits: bool = False,
    ) -> Self:
        """Return what a checked request asks for. None for `history`: as the settings say."""
        asked = cls(tuple(request.messages), request.model, request.params, on_active, request_id)
        return replace(asked, replaces=replaces, history=history, is_of_usechat=is_of_usechat, edits=edits)

    def with_system(self, text: str) -> Self:
        """Return a copy that begins with this system message."""
        system = Message.model_validate({"role": "system", "content": text})
        return replace(self, messages=(system, *self.messages))
