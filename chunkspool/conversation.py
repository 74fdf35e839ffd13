"""`conversation`: answers in, the one conversation that counts out. Pure; the page's JavaScript has the same rule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from chunkspool.events import MessageEvent
from chunkspool.fold import Answer
from chunkspool.ids import GenerationId


@dataclass(frozen=True, slots=True)
class Turn:
    """An answer of the conversation, and the messages that it answers.

    `versions` are the generations of all answers that were given in this place, in the order of the log, this one
    included. Another version of an edited question has other messages.
    """

    messages: tuple[MessageEvent, ...]
    answer: Answer
    versions: tuple[GenerationId, ...]


def conversation(answers: Iterable[Answer]) -> tuple[Turn, ...]:
    """Return the turns that count, oldest first, of answers in the order of the log.

    The newest answer counts. Each follows the one before it in the log, or, if it replaces another, the one that this
    other follows; so a new version in the middle leaves out what came after the old one. Where what an answer replaces
    is not among `answers`, the conversation begins with this answer: of a page, all that can be known.
    """
    paths = _Paths()
    for answer in answers:
        paths.add(answer)
    return tuple(paths.turns())


class _Paths:
    """Which answer each one follows, and in whose place it stands."""

    def __init__(self) -> None:
        self._answers: dict[GenerationId, Answer] = {}
        self._parents: dict[GenerationId, GenerationId | None] = {}
        # The oldest version of each answer, also one that is not known; and all versions of this oldest one.
        self._places: dict[GenerationId, GenerationId] = {}
        self._versions: dict[GenerationId, list[GenerationId]] = {}
        self._tip: GenerationId | None = None

    def add(self, answer: Answer) -> None:
        own, replaced = answer.generation_id, answer.replaces
        if replaced == own:  # nobody writes that; it must not go round in circles
            replaced = None
        self._answers[own] = answer
        self._parents[own] = self._tip if replaced is None else self._parents.get(replaced)
        place = own if replaced is None else self._places.get(replaced, replaced)
        self._places[own] = place
        self._versions.setdefault(place, []).append(own)
        self._tip = own

    def turns(self) -> list[Turn]:
        turns: list[Turn] = []
        one = self._tip
        while one is not None:
            answer = self._answers[one]
            turns.append(Turn(asked_by(answer, self._answers), answer, tuple(self._versions[self._places[one]])))
            one = self._parents[one]
        turns.reverse()
        return turns


def asked_by(answer: Answer, answers: Mapping[GenerationId, Answer]) -> tuple[MessageEvent, ...]:
    """Return the messages that `answer` answers: its own, or those of the version that it replaces."""
    seen = {answer.generation_id}
    while not answer.asked and answer.replaces is not None and answer.replaces not in seen:
        seen.add(answer.replaces)
        replaced = answers.get(answer.replaces)
        if replaced is None:
            break
        answer = replaced
    return answer.asked
