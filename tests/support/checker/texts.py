"""Check a generation's text against the model server's output: the rules about texts and model calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from support.checker.observations import EnqueuedGeneration, ModelOutput
from support.checker.raw_log import ReadableEntry
from support.checker.violations import Rule, Violation

CLOCK_MS = 5
"""How many ms a call may seem to precede its attempt: both times are from the machine's clock, truncated to ms."""


@dataclass(slots=True)
class Section:
    """The output after one `generation.started`; `at` is when its attempt started, in Unix ms."""

    seq: int
    at: int
    attempt: int
    continues: bool
    deltas: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.deltas)


def sections_of(lines: Sequence[ReadableEntry]) -> list[Section]:
    """Return a generation's attempts with their output."""
    sections: list[Section] = []
    for line in lines:
        if line.type == "generation.started":
            attempt, continues = line.event["attempt"], bool(line.event.get("continues"))
            # An attempt that falls back writes a second start while it asks its model again.
            fell_back = bool(sections) and sections[-1].attempt == attempt
            at = sections[-1].at if fell_back else line.at
            sections.append(Section(line.seq, at, attempt, continues))
        elif line.type == "text.delta" and sections:
            sections[-1].deltas.append(str(line.event["text"]))
    return sections


def check_text(chat: str, asked: EnqueuedGeneration, lines: Sequence[ReadableEntry]) -> Iterator[Violation]:
    """Yield where the text is not the beginning (if completed: the whole) of one model call per attempt."""
    sections, left = sections_of(lines), list(asked.calls or ())
    attempts = len({section.attempt for section in sections})
    if len(left) > attempts and not asked.forgot_calls:
        yield Violation(Rule.CALLS, chat, asked.generation_id, lines[-1].seq, f"{len(left)} calls, {attempts} attempts")
    completed = lines[-1].type == "generation.completed"
    prefix = ""
    for section in sections:
        prefix = prefix if section.continues else ""
        whole = completed and section is sections[-1]
        if section.text or whole:
            call = _call_of(section, left, whole=whole)
            for rule, detail in (
                _rules_broken(section, call, prefix, whole=whole)
                if call
                else _rule_of_unmatched_text(section, asked, left)
            ):
                yield Violation(rule, chat, asked.generation_id, section.seq, f"attempt {section.attempt} {detail}")
            # Later attempts belong to later calls: those up to this one are used up.
            left = [one for one in left if call is None or one.number > call.number]
        prefix += section.text


def _call_of(section: Section, calls: Sequence[ModelOutput], *, whole: bool) -> ModelOutput | None:
    matching = [one for one in calls if one.text.startswith(section.text)]
    return min(matching, key=lambda one: whole and one.text != section.text, default=None)


def _rules_broken(section: Section, call: ModelOutput, prefix: str, *, whole: bool) -> Iterator[tuple[Rule, str]]:
    if call.began is not None and call.began < section.at - CLOCK_MS:
        yield Rule.MIXED, f"has the text of call {call.number}, which came before it started"
    if call.prefix != prefix:
        yield Rule.PREFIX, f"continued from {len(call.prefix)} characters, the log has {len(prefix)}"
    if whole and not (call.whole and call.text == section.text):
        said = f"{len(section.text)} of {len(call.text)} characters"
        yield Rule.INCOMPLETE, f"said {said} of call {call.number}{'' if call.whole else ', which was cut off'}"


def _rule_of_unmatched_text(
    section: Section, asked: EnqueuedGeneration, left: Sequence[ModelOutput]
) -> Iterator[tuple[Rule, str]]:
    """Yield the rule that a text breaks if none of the remaining calls begins with it."""
    every = asked.calls or ()
    sources = [{one.number for one in every if delta in one.text} for delta in section.deltas]
    # One remaining call contains every piece, although not in this order.
    jumbled = bool(sources) and bool(set.intersection(*sources) & {one.number for one in left})
    rule = Rule.MIXED if all(sources) and sources and not jumbled else Rule.TEXT
    yield rule, f"said {section.text[:80]!r} in {len(section.deltas)} pieces"
