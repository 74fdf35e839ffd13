"""A chat as UI messages: what was said on the path that counts, as it was given, and what the generations answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from chunkspool.conversation import Turn
from chunkspool.dialects.usechat import UseChatEncoder
from chunkspool.dialects.usechat_builder import MessageBuilder
from chunkspool.dialects.usechat_logged import ToolOutput, continued_by, output_of, shown_as
from chunkspool.dialects.usechat_messages import UiMessage, UiPart, UseChatRequest, is_tool
from chunkspool.errors import InvalidRequest, shown
from chunkspool.events import Entry


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message: as it was `given`, or that of the generation `answered_by`, which extends `given` if there is one.

    `turn` is the generation with which it came into the chat. `outputs` are those of its tools that came later, and not
    from a front end of the AI SDK.
    """

    id: str
    turn: str
    given: UiMessage | None = None
    answered_by: str | None = None
    outputs: tuple[ToolOutput, ...] = ()

    @property
    def is_of_assistant(self) -> bool:
        """Whether it is no message of a user."""
        return self.given is None or self.given.role == "assistant"


@dataclass(frozen=True, slots=True)
class MessagePage:
    """Some of a chat's messages. Their events are those of `generation_ids`.

    `before` is the id of the first one, if there are others in front of it.
    """

    messages: tuple[ChatMessage, ...]
    before: str | None

    @property
    def generation_ids(self) -> frozenset[str]:
        """The generations whose events the page needs."""
        return frozenset(one.answered_by for one in self.messages if one.answered_by is not None)


class Chat:
    """The messages of a chat, of the turns that count."""

    def __init__(self, turns: Sequence[Turn], known: Mapping[str, UiMessage], *, is_whole: bool) -> None:
        """`known` are messages that need no events, by their generations. Unless `is_whole`, earlier turns may follow.

        The first turn is then left out: what it replaces may be among them.
        """
        self.is_whole = is_whole
        self.turns = tuple(turns if is_whole else turns[1:])
        self._known = known
        self._messages: list[ChatMessage] = []
        self._places: dict[str, int] = {}
        # Whether a message of an earlier turn is extended in a later one.
        self._reaches_back = False
        for turn in self.turns:
            self._add(turn)

    def find_page(self, before: str | None, limit: int | None) -> MessagePage | None:
        """Return the newest `limit` messages in front of `before`; None if earlier turns are needed for that.

        Raises `InvalidRequest` where there is no such message.
        """
        end = len(self._messages) if before is None else self._place_of(before)
        if end is None:
            if self.is_whole:
                raise InvalidRequest(f"before={shown(before)}: the chat has no message of this id")
            return None
        start = 0 if limit is None else max(0, end - limit)
        if not self.is_whole and (start == 0 or self._reaches_back):
            return None
        return MessagePage(tuple(self._messages[start:end]), self._messages[start].id if start else None)

    def find_answered(self, request: UseChatRequest) -> str | None:
        """Return the generation that the request wants once more; None if the log does not tell."""
        named = self._place_of(request.messageId)
        if named is None and request.last_user_message_id is not None:
            named = self._place_of(request.last_user_message_id)
        if named is None:
            return None if request.sent or request.messageId or not self._messages else self._messages[-1].turn
        return self._messages[named].turn

    def _add(self, turn: Turn) -> None:
        last = len(turn.messages) - 1
        for number, event in enumerate(turn.messages):
            message = shown_as(event)
            if message is not None:
                self._put(ChatMessage(message.id, turn.answer.generation_id, message), is_last=number == last)
            elif (output := output_of(event)) is not None:
                self._note_output(output)
        self._put_answer(turn.answer.generation_id, continued_by(turn.messages))

    def _put(self, message: ChatMessage, *, is_last: bool) -> None:
        """Add a message. If it is there already, it was sent along, or it is the last one: what followed it is gone."""
        place = self._place_of(message.id)
        if place is not None:
            if not is_last:
                return
            for gone in self._messages[place:]:
                self._places.pop(gone.id, None)
            del self._messages[place:]
        self._append(message)

    def _put_answer(self, generation_id: str, continued: UiMessage | None) -> None:
        known = self._known.get(generation_id)
        answered_by = None if known else generation_id
        if continued is None:
            self._append(ChatMessage(generation_id, generation_id, known, answered_by))
            return
        place = self._place_of(continued.id)
        if place is not None and self._messages[place].is_of_assistant:
            turn = self._messages[place].turn
            self._messages[place] = ChatMessage(continued.id, turn, continued, answered_by)
        elif self.is_whole or place is not None:
            self._append(ChatMessage(continued.id, generation_id, continued, answered_by))
        else:
            self._reaches_back = True

    def _note_output(self, output: ToolOutput) -> None:
        """Add a tool's output to the newest message of the assistant."""
        for place in range(len(self._messages) - 1, -1, -1):
            one = self._messages[place]
            if one.is_of_assistant:
                self._messages[place] = replace(one, outputs=(*one.outputs, output))
                return

    def _append(self, message: ChatMessage) -> None:
        self._places[message.id] = len(self._messages)
        self._messages.append(message)

    def _place_of(self, message_id: str | None) -> int | None:
        """Return where the message stands. Without an id, none is found."""
        return self._places.get(message_id) if message_id else None


class PageBuilder:
    """Builds the messages of one page. The generations are told apart, so their events may come in any order."""

    def __init__(self, page: MessagePage, *, sdk: int) -> None:
        """`sdk` is the major version of the client's AI SDK."""
        self._page = page
        self._sdk = sdk
        self._encoders = {
            one.answered_by: UseChatEncoder(one.answered_by, sdk=sdk, continued=one.given)
            for one in page.messages
            if one.answered_by is not None
        }

    def add(self, entry: Entry) -> None:
        """Add an entry of one of the page's generations."""
        self._encoders[entry.generation_id].add(entry)

    def build(self) -> list[UiMessage]:
        """Return the messages, in order. Nothing may be added afterwards."""
        return [_with_outputs(self._build(one), one.outputs) for one in self._page.messages]

    def _build(self, message: ChatMessage) -> UiMessage:
        if message.answered_by is None and message.given is not None:
            return message.given
        chunks = self._encoders[message.answered_by or ""].take_chunks()
        return MessageBuilder(message.given, sdk=self._sdk).take(chunks)


def _with_outputs(message: UiMessage, outputs: Sequence[ToolOutput]) -> UiMessage:
    if not outputs:
        return message
    known = dict(outputs)
    return message.model_copy(update={"parts": [_with_output(part, known) for part in message.parts]})


def _with_output(part: UiPart, outputs: Mapping[str, object]) -> UiPart:
    call_id = part.get("toolCallId")
    if not is_tool(part) or part.get("state") != "input-available" or call_id not in outputs:
        return part
    return {**part, "state": "output-available", "output": outputs[str(call_id)]}  # type: ignore[dict-item] # it is JSON
