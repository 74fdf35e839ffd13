"""How the promises can be broken: what the checker reports."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Rule(StrEnum):
    """One rule each; the number is the promise's."""

    UNREADABLE = "1: an entry that is no event"
    HOLE = "1: the seqs are not 1, 2, 3 …"
    COUNTER = "1: the counter is not the last seq"
    TEXT = "2: the text is not what the model said, once and in order"
    ATTEMPTS = "3: the attempts are not 1, 2, 3 …"
    MIXED = "3: text of two attempts after one start"
    UNSTARTED = "3: something was said before an attempt had started"
    PREFIX = "3: an attempt went on from another text than the log's"
    CALLS = "3: more model calls than attempts"
    QUEUED = "4: a generation does not begin with one generation.queued"
    UNENDED = "4: a generation without an ending"
    TWO_ENDINGS = "4: a generation with two endings"
    AFTER_ENDING = "4: something was said after the ending"
    STOP_IGNORED = "5: a stop was acknowledged, and the ending is another one"
    STOP_UNASKED = "5: stopped, and nobody had asked for it"
    OPEN = "5: a model call that nobody closed"
    INCOMPLETE = "5: completed, and the model had more to say"
    READER = "6: a reader got something else than the log"
    READER_LEFT = "6: a reader was let go too early"
    READER_ERROR = "7: a reader got an error, or waited for ever"
    UNCAUSED = "9: a new attempt, and nothing had happened to the one before"
    DIED = "9: a worker ended by itself"
    FAILED = "9: failed without a reason that was foreseen"
    GHOST = "11: a generation that nobody was told of"
    LOST = "11: a generation that the log does not know"


@dataclass(frozen=True, slots=True)
class Violation:
    """One rule that does not hold in one place. `generation` is "" and `seq` 0 where there is none."""

    rule: Rule
    chat: str
    generation_id: str = ""
    seq: int = 0
    detail: str = ""

    def __str__(self) -> str:
        """Return it as one line of a report."""
        seq = f"seq {self.seq}" if self.seq else ""
        where = " ".join(filter(None, (self.chat, self.generation_id, seq)))
        return f"promise {self.rule.value} — {where}{f': {self.detail}' if self.detail else ''}"
