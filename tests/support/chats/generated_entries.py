"""Generate random logs like those of workers: dying attempts, interleaved generations, every kind of event."""

from __future__ import annotations

from random import Random

from chunkspool import Entry
from chunkspool.events import (
    DataEvent,
    Event,
    GenerationCompleted,
    GenerationFailed,
    GenerationQueued,
    GenerationStarted,
    GenerationStopped,
    ReasoningDelta,
    TextDelta,
    ToolCallEvent,
    ToolResultEvent,
    UnknownEvent,
    UsageEvent,
    encode,
)

WORDS = ("sky", " blue", "\n\n", "data: x", "ß", "🙂", '"', "\\", "\r", "\u2028")


def random_log(seed: int, generations: int = 2) -> list[Entry]:
    """Return the entries of a random chat, numbered from 1."""
    random = Random(seed)  # noqa: S311 - repeatable, not a secret
    threads = [_random_generation(random, f"g{n}") for n in range(generations)]
    events: list[Event] = []
    while any(threads):
        events.append(random.choice([thread for thread in threads if thread]).pop(0))
    return entries_of(events)


def entries_of(events: list[Event]) -> list[Entry]:
    """Return events as entries, numbered from 1."""
    return [Entry(seq, 1000 + seq, event, encode(event)) for seq, event in enumerate(events, start=1)]


def _random_generation(random: Random, name: str) -> list[Event]:
    events: list[Event] = [GenerationQueued(generation_id=name)]
    if random.random() < 0.1:
        return [*events, GenerationStopped(generation_id=name, by="user", reason=None)]
    for attempt in range(1, random.choice((2, 2, 3, 4))):
        continues = attempt > 1 and random.random() < 0.3
        events.append(GenerationStarted(generation_id=name, attempt=attempt, model="m", continues=continues))
        events += _random_output(random, name, attempt if continues else 1)
    endings: list[Event] = [
        GenerationCompleted(generation_id=name, finish_reason=random.choice(("stop", "length", "strange"))),
        GenerationStopped(generation_id=name, by="user", reason=random.choice((None, "enough"))),
        GenerationFailed(generation_id=name, code="server_error", message="The model failed.", retryable=True),
    ]
    return [*events, random.choice(endings)]


def _random_output(random: Random, name: str, attempt: int) -> list[Event]:
    said: list[Event] = []
    for number in range(random.randrange(8)):
        call = f"call-{attempt}-{number}"  # an attempt that restarts may use the same ids
        choices: list[list[Event]] = [
            [TextDelta(generation_id=name, text=random.choice(WORDS)) for _ in range(random.randrange(1, 5))],
            [ReasoningDelta(generation_id=name, text=random.choice(WORDS))],
            [
                ToolCallEvent(
                    generation_id=name, id=call, name="clock", arguments=random.choice(("{}", '{"a":1}', "{broken"))
                ),
                ToolResultEvent(generation_id=name, id=call, output={"hour": number}),
            ],
            [ToolResultEvent(generation_id=name, id="nobody's", output=1)],
            [DataEvent(generation_id=name, name="colour", value=["red", number])],
            [UsageEvent(generation_id=name, input_tokens=3, output_tokens=number)],
            [UnknownEvent(type="from.tomorrow", generation_id=name)],
        ]
        said += random.choices(choices, weights=(6, 3, 2, 1, 2, 1, 1))[0]
    return said
