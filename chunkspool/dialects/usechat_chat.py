"""A chat as UI messages: what was said on the path that counts, as it was given, and what the generations answered."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

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
    from a front end of the AI SDK. `asked_as` is an id of its own that a message has which was asked; an answer has
    none.
    """

    id: str
    turn: str
    given: UiMessage | None = None
    answered_by: str | None = None
    outputs: tuple[ToolOutput, ...] = ()
    asked_as: str = ""

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


class Again(NamedTuple):
    """What is asked once more: the question of a generation, or `question`, an earlier one that came with it."""

    generation_id: str
    question: UiMessage | None = None


class Chat:
    """The messages of a chat, of the turns that count, each with an id of its own: the SDK needs that.

    An answer has the id of its generation. Of others that say the same id, the newest has it.
    """

    def __init__(
        self,
        turns: Sequence[Turn],
        known: Mapping[str, UiMessage],
        *,
        is_whole: bool,
        answer_ids: Collection[str] = (),
    ) -> None:
        """`known` are messages that need no events, by their generations. Unless `is_whole`, earlier turns may follow.

        The first turn is then left out: what it replaces may be among them. `answer_ids` are the generations of the
        chat, also of other turns.
        """
        self.is_whole = is_whole
        self._answer_ids = frozenset(answer_ids) | {turn.answer.generation_id for turn in turns}
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

    def find_message(self, message_id: str) -> ChatMessage | None:
        """Return the message of this id."""
        place = self._place_of(message_id)
        return None if place is None else self._messages[place]

    def find_again(self, request: UseChatRequest) -> Again | None:
        """Return what the request wants once more; None if the log does not tell.

        Raises `InvalidRequest` where the log tells that it is nothing that can be asked.
        """
        named = self._place_of(request.messageId)
        if named is None and request.last_user_message_id is not None:
            named = self._place_of(request.last_user_message_id)
        if named is None:
            last = None if request.sent or request.messageId or not self._messages else self._messages[-1]
            return None if last is None else Again(last.turn)
        if request.trigger == "regenerate-message":
            return self._again(named, request)
        return self._edited(self._messages[named], request)

    def _again(self, named: int, request: UseChatRequest) -> Again:
        """Return what is asked for another version of the named message, or of the answer to it."""
        one = self._messages[named]
        if not one.asked_as:
            return Again(one.turn)
        asked = self._asked_with(one)
        before = [message for message in self._messages[: named + 1] if message in asked]
        question = next((message for message in reversed(before) if not message.is_of_assistant), None)
        if question is None or question.given is None:
            raise InvalidRequest(f"nobody has asked the message {shown(one.id)}: it cannot be given once more")
        if question is asked[-1]:
            return Again(one.turn)
        self._check_own_id(question)
        own_id = question.given.id
        if not request.sent:
            return Again(one.turn, question.given)
        if request.last_user_message_id not in {own_id, ""}:
            raise InvalidRequest(
                f"the message {shown(one.id)} answers {shown(own_id)}: send that as the user's last message, or none"
            )
        return Again(one.turn)

    def _edited(self, one: ChatMessage, request: UseChatRequest) -> Again:
        """Return what is asked if the message has been edited."""
        if one.given is not None and len(self._asked_with(one)) > 1:
            self._check_own_id(one)
            if request.sent[-1].id != one.given.id:
                raise InvalidRequest(f"a message that takes the place of {shown(one.id)} must have its id")
        return Again(one.turn)

    def _asked_with(self, one: ChatMessage) -> list[ChatMessage]:
        return [message for message in self._messages if message.turn == one.turn and message.asked_as]

    def _check_own_id(self, one: ChatMessage) -> None:
        """Raise `InvalidRequest` if others that were asked with the message are told apart from it by the place only.

        In the log, an edited message takes the place of the one that has its id there.
        """
        if one.given is not None and one.given.id != one.id:
            raise InvalidRequest(f"other messages have the id {shown(one.given.id)}, too: none of them can be edited")

    def _add(self, turn: Turn) -> None:
        generation_id, last = turn.answer.generation_id, len(turn.messages)
        for number, event in enumerate(turn.messages, 1):
            message = shown_as(event)
            if message is not None:
                asked_as = f"{event.generation_id}.{number}"
                asked = ChatMessage(message.id, generation_id, message, asked_as=asked_as)
                if number == last or not self._is_there(asked):
                    self._append(asked)
            elif (output := output_of(event)) is not None:
                self._note_output(output)
        self._put_answer(generation_id, continued_by(turn.messages))

    def _is_there(self, message: ChatMessage) -> bool:
        """Return whether it was sent along with a new one, word for word."""
        place = self._place_of(message.id)
        given = None if place is None else self._messages[place].given
        return given is not None and message.given is not None and given.parts == message.given.parts

    def _put_answer(self, generation_id: str, continued: UiMessage | None) -> None:
        known = self._known.get(generation_id)
        answered_by = None if known else generation_id
        if continued is None:
            self._append(ChatMessage(generation_id, generation_id, known, answered_by))
            return
        place = self._place_of(continued.id)
        if place is not None and self._messages[place].is_of_assistant:
            extended = self._messages[place]
            self._messages[place] = replace(extended, given=continued, answered_by=answered_by, outputs=())
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
        taken = self._answer_ids if message.asked_as else self._places
        if not message.id or message.id in taken:
            message = self._renamed(message)
        place = self._place_of(message.id)
        if place is not None:
            earlier = self._messages[place] = self._renamed(self._messages[place])
            self._places[earlier.id] = place
        self._places[message.id] = len(self._messages)
        self._messages.append(message)

    def _renamed(self, message: ChatMessage) -> ChatMessage:
        """Return the message with another id, which nobody has."""
        own_id = message.asked_as or message.turn
        while own_id in self._places or own_id in self._answer_ids - {message.turn}:
            own_id += "+"
        return replace(message, id=own_id)

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
        return [self._build(one) for one in self._page.messages]

    def _build(self, message: ChatMessage) -> UiMessage:
        built = _with_outputs(self._build_parts(message), message.outputs)
        return built if built.id == message.id else built.model_copy(update={"id": message.id})

    def _build_parts(self, message: ChatMessage) -> UiMessage:
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
