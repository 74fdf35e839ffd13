"""The routes that an AI SDK front end (`useChat`) calls, for the views of an app with threads."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from pydantic import JsonValue

from chunkspool.admission.asked import AskedGeneration
from chunkspool.admission.defaults import SafeAdmission
from chunkspool.dialects.usechat import UseChatEncoder
from chunkspool.dialects.usechat_conversation import Conversation
from chunkspool.dialects.usechat_logged import to_logged_messages
from chunkspool.dialects.usechat_messages import UseChatRequest, to_model_messages
from chunkspool.effects import drive
from chunkspool.errors import InvalidId, InvalidInput, InvalidRequest, shown
from chunkspool.ids import checked_id
from chunkspool.operations.query import MAX_LIMIT
from chunkspool.reading.replay_report import report_failed_replay
from chunkspool.request import GenerationRequest
from chunkspool.results import Generation
from chunkspool.settings import LogSettings
from chunkspool.spool.sync import Spool
from chunkspool.views.event_stream import EventStream
from chunkspool.views.history import KnownRequest, find_answer, find_known, find_messages

FIRST_SDK, LAST_SDK = 6, 99
"""Major versions of the SDK."""


class UseChat:
    """Send, resume and list the messages of a chat; stopping it is `Spool.stop`.

    Who may do what in which chat is for the views to find out first. `sdk` is the major version of the client's AI SDK,
    also as the text of a query: since 7, it can take back what a restart makes void. All raise `InvalidInput` for bad
    arguments, and a `StoreError` where Redis cannot be asked.
    """

    def __init__(self, spool: Spool, admit: Callable[[AskedGeneration], AskedGeneration] | None = None) -> None:
        """`admit` returns what a user asks for as it shall be, or raises `Refused`; `SafeAdmission` unless given."""
        self._spool = spool
        self._admit = admit or SafeAdmission.from_settings(spool.settings).check

    def send(self, body: UseChatRequest, *, sdk: int | str = FIRST_SDK, owner: str | None = None) -> EventStream:
        """Enqueue the answer to the last message; return its stream. This stops a generation that is still active.

        `owner` says whose it is, for the limits. Raises `Refused`, or what `Spool.enqueue` does.
        """
        version, log = checked_sdk(sdk), self._spool.settings.log
        known = KnownRequest(body)
        if log.keep_messages:
            known = drive(find_known(body, version), lambda call: call.make(self._spool))
        admitted = self._admit(asked_of(known, log))
        generation = self._spool.enqueue(
            body.id,
            messages=admitted.messages,
            model=admitted.model,
            params=admitted.params,
            request_id=admitted.request_id,
            on_active=admitted.on_active,
            ttl=admitted.ttl,
            owner=owner if admitted.owner is None else admitted.owner,
            priority=admitted.priority,
            expires=admitted.expires,
            replaces=admitted.replaces,
            history=admitted.history,
            keep_messages=admitted.keep_messages,
            transcript=transcript_of(known.body, log, admitted),
        )
        return answer_to(body, generation, version)

    def resume(self, chat_id: str, *, sdk: int | str = FIRST_SDK) -> EventStream | None:
        """Return the stream of the answer that is being written, from its beginning; None if there is none: 204."""
        with report_failed_replay(self._spool.observer):
            return drive(find_answer(chat_id, checked_sdk(sdk)), lambda call: call.make(self._spool))

    def messages(
        self, chat_id: str, *, sdk: int | str = FIRST_SDK, before: str | None = None, limit: int | str | None = None
    ) -> bytes:
        """Return the chat's messages as JSON, `{"messages": […], "active": […], "before": …}`: what a page starts with.

        With `limit`, only the newest; `before` of the reply then leads to those in front of them. A chat that does not
        exist has none. Raises `CursorExpired` where a part of it is gone.
        """
        most = None if limit is None else _checked_number("limit", limit, 1, MAX_LIMIT)
        found = find_messages(chat_id, checked_sdk(sdk), before, most)
        return drive(found, lambda call: call.make(self._spool)).to_json()


def asked_of(known: KnownRequest, log: LogSettings) -> AskedGeneration:
    """Return the generation that a front end asks for. Raises `InvalidRequest`."""
    body, replaces = known
    has_history = log.history if body.wants_history is None else body.wants_history
    messages = to_logged_messages(body, only_new=has_history)
    if body.sent and not (to_model_messages(body.sent) or (has_history and body.continued_message)):
        raise InvalidRequest("the messages have no text, no file and no tool output")
    if not messages and replaces is None:
        raise InvalidRequest("there are no messages, and the log has no answer to be given once more")
    request = GenerationRequest.checked(
        prompt=None, messages=messages, model=body.model, params=body.params, replaces=replaces
    )
    request_id = _usable_request_id(body.fresh_message_id)
    return AskedGeneration.of(
        request,
        on_active="replace",
        request_id=request_id,
        replaces=replaces,
        history=body.wants_history,
        is_of_usechat=True,
    )


def transcript_of(body: UseChatRequest, log: LogSettings, admitted: AskedGeneration) -> JsonValue:
    """Return what is kept beside the log where that has no messages; else None."""
    keeps_messages = log.keep_messages if admitted.keep_messages is None else admitted.keep_messages
    return None if keeps_messages else Conversation.of_request(body).to_transcript()


def answer_to(body: UseChatRequest, generation: Generation, sdk: int) -> EventStream:
    """Return the stream of the answer, for the client that asked."""
    encoder = UseChatEncoder(generation.generation_id, sdk=sdk, continued=body.continued_message)
    return EventStream(body.id, generation.after, generation.generation_id, encoder)


def checked_sdk(version: int | str) -> int:
    """Return the SDK's major version. Raises `InvalidInput`."""
    return _checked_number("sdk", version, FIRST_SDK, LAST_SDK)


def _checked_number(name: str, value: int | str, least: int, most: int) -> int:
    text = str(value)
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(most)) and least <= int(text) <= most):
        raise InvalidInput(f"{name}={shown(text)}: it must be a whole number from {least} to {most}")
    return int(text)


def _usable_request_id(text: str | None) -> str | None:
    """Return `text` if it can be a request id, else one that stands for it: front ends may use any text as an id."""
    try:
        return None if text is None else checked_id("request_id", text)
    except InvalidId:
        return f"ui-{hashlib.sha256((text or '').encode('utf-8', 'surrogatepass')).hexdigest()}"
