"""Check a chat against the promises, using its raw log and the observations from outside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from support.checker.observations import EnqueuedGeneration, Observations, Reading
from support.checker.raw_log import ENDINGS, RawChat, ReadableEntry, generations_of
from support.checker.texts import check_text
from support.checker.violations import Rule, Violation

MESSAGE, QUEUED, STARTED = "message", "generation.queued", "generation.started"
COMPLETED, STOPPED, FAILED = "generation.completed", "generation.stopped", "generation.failed"


def check(chat: RawChat, observations: Observations | None = None) -> list[Violation]:
    """Return all violations. Without observations only the log itself is checked."""
    found = [*_check_log(chat)]
    generations = generations_of(chat)
    asked = {one.generation_id: one for one in observations.generations} if observations else {}
    for generation, lines in generations.items():
        found += _check_generation(chat.name, generation, lines)
        if generation in asked:
            found += _check_expectations(chat.name, asked[generation], lines)
        elif observations:
            found.append(Violation(Rule.GHOST, chat.name, generation, lines[0].seq))
    found += [
        Violation(Rule.LOST, chat.name, one.generation_id)
        for one in asked.values()
        if one.generation_id not in generations and not one.may_be_gone
    ]
    for reading in observations.readings if observations else ():
        found += _check_reading_of_any((chat, *observations.earlier) if observations else (chat,), reading)
    return found


def _check_log(chat: RawChat) -> Iterator[Violation]:
    expected = 1
    for entry in chat.entries:
        if entry.seq != expected:
            yield Violation(Rule.HOLE, chat.name, seq=expected, detail=f"the entry there is {entry.id}")
        if entry.event is None:
            yield Violation(Rule.UNREADABLE, chat.name, seq=entry.seq or expected, detail=repr(entry.data[:80]))
        expected = (entry.seq or expected) + 1
    if (chat.counter or 0) != expected - 1:
        yield Violation(Rule.COUNTER, chat.name, detail=f"{chat.counter} after {expected - 1} events")


def _check_generation(chat: str, generation: str, lines: Sequence[ReadableEntry]) -> Iterator[Violation]:
    # The messages that it was asked with stand in front of it, and nowhere else.
    first = next((i for i, line in enumerate(lines) if line.type != MESSAGE), 0)
    lines = lines[first:]
    types = [line.type for line in lines]
    if types[0] != QUEUED or types.count(QUEUED) != 1 or MESSAGE in types:
        yield Violation(Rule.QUEUED, chat, generation, lines[0].seq, f"{types[0]}, {types.count(QUEUED)} in all")
    yield from _check_endings(chat, generation, lines)
    yield from _check_attempts(chat, generation, lines)


def _check_endings(chat: str, generation: str, lines: Sequence[ReadableEntry]) -> Iterator[Violation]:
    ends = [i for i, line in enumerate(lines) if line.type in ENDINGS]
    if not ends:
        yield Violation(Rule.UNENDED, chat, generation, lines[-1].seq, f"its last event is {lines[-1].type}")
        return
    for line in lines[ends[0] + 1 :]:
        rule = Rule.TWO_ENDINGS if line.type in ENDINGS else Rule.AFTER_ENDING
        yield Violation(rule, chat, generation, line.seq, f"{line.type} after {lines[ends[0]].type}")


def _check_attempts(chat: str, generation: str, lines: Sequence[ReadableEntry]) -> Iterator[Violation]:
    """Check that attempts are 1, 2, 3 …; one that could not continue may start again without the earlier text."""
    attempt, continues = 0, False
    for line in lines:
        if line.type == STARTED:
            number, now_continues = line.event.get("attempt"), bool(line.event.get("continues"))
            fell_back = number == attempt and continues and not now_continues
            if number != attempt + 1 and not fell_back:
                yield Violation(Rule.ATTEMPTS, chat, generation, line.seq, f"attempt {number} after {attempt}")
            attempt, continues = number if isinstance(number, int) else attempt, now_continues
        elif attempt == 0 and line.type not in {QUEUED, *ENDINGS}:
            yield Violation(Rule.UNSTARTED, chat, generation, line.seq, line.type)
    if attempt == 0 and lines[-1].type == COMPLETED:
        yield Violation(Rule.UNSTARTED, chat, generation, lines[-1].seq, "completed")


def _check_expectations(chat: str, asked: EnqueuedGeneration, lines: Sequence[ReadableEntry]) -> Iterator[Violation]:
    last = lines[-1]
    if last.type == STOPPED and last.event.get("by") not in asked.stopped_by:
        yield Violation(Rule.STOP_UNASKED, chat, asked.generation_id, last.seq, f"by {last.event.get('by')!r}")
    if asked.stop_accepted and last.type in ENDINGS and last.type != STOPPED:
        yield Violation(Rule.STOP_IGNORED, chat, asked.generation_id, last.seq, last.type)
    if last.type == FAILED and last.event.get("code") not in asked.may_fail:
        yield Violation(
            Rule.FAILED, chat, asked.generation_id, last.seq, f"{last.event.get('code')}: {last.event.get('message')}"
        )
    if asked.calls is not None:
        yield from check_text(chat, asked, lines)


def _check_reading_of_any(chats: Sequence[RawChat], reading: Reading) -> list[Violation]:
    """Require that the reading is one of the log as it is, or as it once was; parts of two are a splice."""
    now, *earlier = chats
    if reading.told and all(one.entries == now.entries[: len(one.entries)] for one in earlier):
        return [Violation(Rule.READER_TOLD, f"{now.name} {reading.reader}", seq=reading.after)]
    broken = [[*_check_reading(chat, reading)] for chat in chats]
    return min(broken, key=len)


def _check_reading(chat: RawChat, reading: Reading) -> Iterator[Violation]:
    name, at = f"{chat.name} {reading.reader}", reading.after
    if reading.error is not None:
        yield Violation(Rule.READER_ERROR, name, seq=at + len(reading.entries), detail=reading.error)
    log = {entry.seq: entry.data for entry in chat.entries if entry.seq is not None}
    if reading.behind not in (None, log.get(at)) and (reading.entries or reading.ended):
        yield Violation(Rule.READER, name, seq=at, detail="it went on behind an entry that is not in this log")
        return
    for seq, data in reading.entries:
        if seq != at + 1 or log.get(seq) != data:
            detail = (
                f"after {at} the reader got {seq}"
                if seq != at + 1
                else f"{data[:60]!r} instead of {log.get(seq)!r:.60}"
            )
            yield Violation(Rule.READER, name, seq=at + 1, detail=detail)
            return
        at = seq
    if reading.ended:
        yield from _check_end_of_reading(name, reading, at, generations_of(chat), max(log, default=0))


def _check_end_of_reading(
    name: str, reading: Reading, at: int, generations: Mapping[str, Sequence[ReadableEntry]], last: int
) -> Iterator[Violation]:
    """Require a reader that ended by itself to have everything up to an idle moment or its generation's ending."""
    if reading.until == "idle":
        seen = {generation: [line for line in lines if line.seq <= at] for generation, lines in generations.items()}
        unended = [one for one, lines in seen.items() if lines and lines[-1].type not in ENDINGS]
    else:
        ends = [line.seq for line in generations.get(reading.until, ()) if line.type in ENDINGS]
        unended = [] if ends and ends[0] <= at else [reading.until]
    for generation in unended:
        yield Violation(Rule.READER_LEFT, name, generation, at, "it had not ended by then")
    if reading.complete and at != last:
        yield Violation(Rule.READER_LEFT, name, seq=at, detail=f"the log continues to {last}")
