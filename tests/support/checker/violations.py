"""How promises can be broken: what the checker reports."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Rule(StrEnum):
    """The rules, each with the number of its promise."""

    UNREADABLE = "1: an entry that is not an event"
    HOLE = "1: the seqs are not 1, 2, 3 …"
    COUNTER = "1: the counter is not the last seq"
    TEXT = "2: the text is not what the model said, once and in order"
    ATTEMPTS = "3: the attempts are not 1, 2, 3 …"
    MIXED = "3: text of two attempts after one start"
    UNSTARTED = "3: output before an attempt started"
    PREFIX = "3: an attempt continued from a text other than the log's"
    CALLS = "3: more model calls than attempts"
    QUEUED = "4: a generation does not begin with one generation.queued"
    UNENDED = "4: a generation without an ending"
    TWO_ENDINGS = "4: a generation with two endings"
    AFTER_ENDING = "4: an event after the ending"
    STOP_IGNORED = "5: an acknowledged stop is not the ending"
    STOP_UNASKED = "5: stopped without a request"
    OPEN = "5: a model call was not closed"
    INCOMPLETE = "5: completed before the end of the model's answer"
    READER = "6: a reader got something other than the log"
    READER_LEFT = "6: a reader ended too early"
    READER_ERROR = "7: a reader got an error or waited forever"
    READER_TOLD = "7: a reader was told that the log has changed, and it has not"
    UNCAUSED = "9: a new attempt without a fault in the previous one"
    STRANGER = "9: an attempt on a worker of another queue or deployment"
    NEIGHBOUR = "9: another app's task did not run once, without a fault of Redis"
    DIED = "9: a worker ended by itself"
    FAILED = "9: failed for an unexpected reason"
    GHOST = "11: a generation that no caller knows"
    LOST = "11: a generation that is missing from the log"


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule in one place. `generation_id` is "" and `seq` 0 if there is none."""

    rule: Rule
    chat: str
    generation_id: str = ""
    seq: int = 0
    detail: str = ""

    def __str__(self) -> str:
        """Return the violation as one line of a report."""
        seq = f"seq {self.seq}" if self.seq else ""
        where = " ".join(filter(None, (self.chat, self.generation_id, seq)))
        return f"promise {self.rule.value} — {where}{f': {self.detail}' if self.detail else ''}"
