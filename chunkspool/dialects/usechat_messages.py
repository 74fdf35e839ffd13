"""What an AI SDK front end sends: the request body, and the conversion of its UI messages to model messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from chunkspool.dialects.usechat_chunks import RESTART
from chunkspool.errors import InvalidRequest
from chunkspool.json_text import to_valid_json
from chunkspool.request import explain

UiPart = dict[str, JsonValue]
ModelMessage = dict[str, Any]
SdkId = Annotated[str, Field(min_length=1, max_length=1000)]


class UiMessage(BaseModel):
    """A message as the SDK's clients keep it. Further fields are ignored."""

    model_config = ConfigDict(frozen=True)

    id: str = Field("", max_length=1000)
    role: Literal["system", "user", "assistant"]
    parts: list[UiPart]
    metadata: JsonValue = None


class UseChatRequest(BaseModel):
    """The body of `POST /api/chat`. Unknown fields are ignored: front ends add their own, and later SDKs will, too.

    A front end sends its `messages`, or only the last one as `message`; none if it wants an answer once more that
    `messageId` names. `history`: whether the model gets what the log has of the conversation before them.
    """

    model_config = ConfigDict(frozen=True)

    id: SdkId
    messages: list[UiMessage] = Field(default_factory=list)
    message: UiMessage | None = None
    trigger: Literal["submit-message", "regenerate-message"] = "submit-message"
    messageId: SdkId | None = None  # noqa: N815 - the SDK's own name
    model: str | None = Field(None, min_length=1, max_length=200)
    params: dict[str, JsonValue] | None = None
    history: bool | None = None

    @model_validator(mode="after")
    def _has_messages(self) -> Self:
        if not self.sent and self.trigger == "submit-message":
            raise ValueError("there are no messages")
        return self

    @classmethod
    def parse(cls, body: bytes | str | Mapping[str, Any]) -> Self:
        """Return what a request's body says: JSON, or what was parsed of it. Raises `InvalidRequest`."""
        try:
            return cls.model_validate_json(body) if isinstance(body, bytes | str) else cls.model_validate(body)
        except ValidationError as error:
            raise InvalidRequest(explain(error)) from None

    @property
    def sent(self) -> list[UiMessage]:
        """The messages that the front end sent, at least one unless an answer is asked for once more."""
        if self.messages or self.message is None:
            return self.messages
        return [self.message]

    @property
    def wants_history(self) -> bool | None:
        """Whether the log is to supply what was not sent; None: as the settings say."""
        return True if self.history is None and not self.messages else self.history

    @property
    def continued_message(self) -> UiMessage | None:
        """The message that the answer extends: the SDK asks for that after tools have run in the browser.

        It is the last one, or an earlier one that `messageId` names.
        """
        if self.trigger != "submit-message":
            return None
        named = (message for message in reversed(self.sent) if message.id == self.messageId)
        answered = next(named, self.sent[-1])
        return answered if answered.role == "assistant" else None

    def asking(self, question: UiMessage) -> Self:
        """Return the request with this as its only message; the log supplies the rest."""
        return self.model_copy(update={"messages": [], "message": question, "history": True})

    def continuing(self, message: UiMessage) -> Self:
        """Return the request with this in place of the message that the answer extends."""
        continued = self.continued_message
        if continued is self.message:
            return self.model_copy(update={"message": message})
        messages = [message if one is continued else one for one in self.messages]
        return self.model_copy(update={"messages": messages})

    @property
    def asks_again(self) -> bool:
        """Whether an answer is asked for once more: to the same question, or to one that the user has edited."""
        is_edited = self.messageId is not None and self.continued_message is None
        return self.trigger == "regenerate-message" or is_edited

    @property
    def last_user_message_id(self) -> str | None:
        """The id of the user's last message."""
        return next((message.id for message in reversed(self.sent) if message.role == "user"), None)

    @property
    def fresh_message_id(self) -> str | None:
        """The id of the user's message if it is new; None if it is edited or its answer is regenerated."""
        if self.asks_again or self.sent[-1].role != "user":
            return None
        return self.sent[-1].id or None


def to_model_messages(messages: Iterable[UiMessage]) -> list[ModelMessage]:
    """Return the history in the chat-completions shape: texts, the user's files, tool calls with their outputs."""
    converted: list[ModelMessage] = []
    for message in messages:
        if message.role == "assistant":
            converted += _assistant_messages(message.parts)
        elif content := _content_of(message.parts):
            converted.append({"role": message.role, "content": content})
    return converted


def _content_of(parts: list[UiPart]) -> str | list[ModelMessage]:
    """Return a text, or a list if there are files, too."""
    files = [file for part in parts if (file := _file_of(part))]
    text = _text_of(parts)
    if not files:
        return text
    return [{"type": "text", "text": text}, *files] if text else files


def _text_of(parts: list[UiPart]) -> str:
    texts = (part.get("text") for part in parts if part.get("type") == "text")
    return "\n".join(text for text in texts if isinstance(text, str) and text)


def _file_of(part: UiPart) -> ModelMessage | None:
    if part.get("type") != "file" or not isinstance(part.get("url"), str):
        return None
    if str(part.get("mediaType", "")).startswith("image/"):
        return {"type": "image_url", "image_url": {"url": part["url"]}}
    return {"type": "file", "file": {"file_data": part["url"], "filename": str(part.get("filename", "file"))}}


def _assistant_messages(parts: list[UiPart]) -> list[ModelMessage]:
    """Return what each step has said and called, followed by the outputs of its calls.

    A step is one answer of the model, so what it says in the next one, it says with the outputs in mind.
    """
    converted: list[ModelMessage] = []
    step: list[UiPart] = []
    for part in _without_void(parts):
        kind = part.get("type")
        if kind in {"step-start", "steering-message"}:
            converted += _step_messages(step)
            step = []
        if kind == "steering-message":
            # The user has said it between two steps.
            said = part.get("parts")
            if content := _content_of(
                [item for item in said if isinstance(item, dict)] if isinstance(said, list) else []
            ):
                converted.append({"role": "user", "content": content})
        else:
            step.append(part)
    return converted + _step_messages(step)


def _step_messages(parts: list[UiPart]) -> list[ModelMessage]:
    """Return the assistant's message, and a tool message for each of its calls that has an output.

    A call without an output is left out, because model APIs reject it.
    """
    answered = [(part, output) for part in parts if is_tool(part) and (output := _output_of(part)) is not None]
    message: ModelMessage = {"role": "assistant", "content": _text_of(parts) or None}
    if answered:
        message["tool_calls"] = [_tool_call_of(part) for part, _ in answered]
    elif message["content"] is None:
        return []
    outputs = ({"role": "tool", "tool_call_id": part["toolCallId"], "content": output} for part, output in answered)
    return [message, *outputs]


def _without_void(parts: list[UiPart]) -> list[UiPart]:
    """Return the parts without those that a restart has made void: what its generation had said before it."""
    kept: list[UiPart | None] = list(parts)
    for at, part in enumerate(parts):
        if part.get("type") == RESTART:
            data = part.get("data")
            begin = data.get("from", 0) if isinstance(data, dict) else 0
            begin = begin if isinstance(begin, int) and 0 <= begin <= at else 0
            kept[begin : at + 1] = [None] * (at + 1 - begin)
    return [part for part in kept if part is not None]


def is_tool(part: UiPart) -> bool:
    """Return whether the part is a tool call that has an id and a name."""
    kind = part.get("type")
    is_call = isinstance(kind, str) and (kind == "dynamic-tool" or kind.startswith("tool-"))
    return is_call and isinstance(part.get("toolCallId"), str) and tool_name_of(part) != ""


def tool_name_of(part: UiPart) -> str:
    """Return the name of the tool that is called."""
    kind = str(part["type"])
    return str(part.get("toolName") or "") if kind == "dynamic-tool" else kind.removeprefix("tool-")


def _output_of(part: UiPart) -> str | None:
    """Return what the model is told of a call: its output, why it failed or why it was denied; None if it is open."""
    approval = part.get("approval")
    approval = approval if isinstance(approval, dict) else {}
    match part.get("state"):
        case "output-available" if part.get("preliminary") is not True:
            output = part.get("output")
            return output if isinstance(output, str) else to_valid_json(output).decode()
        case "output-error":
            return str(part.get("errorText") or "The tool failed.")
        case "output-denied":
            return str(approval.get("reason") or "Tool call execution denied.")
        case "approval-responded" if approval.get("approved") is False:
            return str(approval.get("reason") or "Tool call execution denied.")
        case _:
            return None


def _tool_call_of(part: UiPart) -> ModelMessage:
    written = part.get("input")
    if written is None:
        # What was no JSON is kept here by version 6.
        written = part.get("rawInput")
    arguments = to_valid_json({} if written is None else written).decode()
    return {
        "id": part["toolCallId"],
        "type": "function",
        "function": {"name": tool_name_of(part), "arguments": arguments},
    }
