"""The Lua scripts: one typed door each. A door only builds a `Call`; `chunkspool.store.client` sends it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal, TypeVar

from pydantic_core import to_json

from chunkspool.events import (
    GenerationFailed,
    GenerationQueued,
    GenerationStarted,
    GenerationStopped,
    encode,
)
from chunkspool.store.commands import Arg, Call, Reads, Script, as_bytes, as_text
from chunkspool.store.keys import STOPS, ChatKeys

T = TypeVar("T")
OnActive = Literal["reject", "replace", "allow"]
EndState = Literal["completed", "stopped", "failed"]
Last = EndState | Literal["released"]
"""What the last batch of an attempt is: an ending, or none, and another attempt may go on at once."""
_WITHOUT_PRELUDE = frozenset({"erase", "mark_played", "reads", "withdraw"})


@cache
def load(name: str) -> Script:
    """Return the script `lua/<name>.lua` with the prelude in front, unless it writes no event and needs none."""
    folder = files("chunkspool.store") / "lua"
    parts = [name] if name in _WITHOUT_PRELUDE else ["prelude", name]
    text = "".join((folder / f"{part}.lua").read_text("utf-8") for part in parts)
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


@dataclass(frozen=True, slots=True)
class Enqueued:
    """What `enqueue` said. `after` is the cursor before the generation's first event; `active` fills "busy"."""

    outcome: Literal["created", "same", "busy", "changed"]
    generation_id: str = ""
    after: int = 0
    active: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Claimed:
    """What `claim` said. `held_ms`: how long the other attempt's lease still runs; `status`: how it had ended."""

    outcome: Literal["claimed", "held", "stopped", "failed", "ended", "gone"]
    attempt: int = 0
    request: bytes = b""
    held_ms: int = 0
    status: str = ""


@dataclass(frozen=True, slots=True)
class Appended:
    """What `append` said. `first` and `last` are the batch's seqs (0, 0 for a heartbeat).

    For "gap", `first` is the index that the script expected.
    """

    outcome: Literal["ok", "fenced", "ended", "gone", "gap"]
    first: int = 0
    last: int = 0
    stop_asked: bool = False
    status: str = ""


@dataclass(frozen=True, slots=True)
class StopReply:
    """What `stop` said: "stopped" has ended it, "stopping" asked its worker, "ended" and "gone" changed nothing."""

    outcome: Literal["stopped", "stopping", "ended", "gone"]
    status: str = ""


@dataclass(frozen=True, slots=True)
class LoseReply:
    """What `lose` said: "lost" and "stopped" have ended the generation now."""

    outcome: Literal["lost", "stopped", "alive", "ended", "gone"]


@dataclass(frozen=True, slots=True)
class Played:
    """What `mark_played` said. `seq` is how far the reader has played; for "ahead", the chat's last seq."""

    outcome: Literal["ok", "ahead", "gone"]
    seq: int = 0


def enqueue(
    keys: ChatKeys,
    generation_id: str,
    request: bytes,
    *,
    model: str | None,
    active: Sequence[str],
    on_active: OnActive,
    ttl_ms: int,
    request_id: str | None = None,
    owner: str | None = None,
) -> Call[Enqueued]:
    """Make a generation. `request` is encoded and names `model`; `active` is what the caller saw as active."""
    made = keys.gen(generation_id) if request_id is None else keys.request(request_id)
    queued = encode(GenerationQueued(generation=generation_id))
    args: list[Arg] = [generation_id, request_id or "", on_active, ttl_ms, owner or "", request]
    args += ["" if model is None else to_json(model), queued, STOPS]
    for other in active:
        args += [other, encode(GenerationStopped(generation=other, by="replace"))]

    def parse(reply: list[Any]) -> Enqueued:
        match as_text(reply[0]):
            case "created":
                return Enqueued("created", generation_id, int(reply[1]))
            case "same":
                return Enqueued("same", as_text(reply[1]), int(reply[2]))
            case "busy":
                return Enqueued("busy", active=tuple(map(as_text, reply[1:])))
            case _:
                return Enqueued("changed")

    script_keys = (*keys.writer(generation_id), made, *map(keys.gen, active))
    return Call(load("enqueue"), script_keys, tuple(args), parse)


def claim(
    keys: ChatKeys,
    generation_id: str,
    *,
    token: str,
    lease_ms: int,
    max_attempts: int,
    model: str | None,
    continues: bool = False,
) -> Call[Claimed]:
    """Take a generation for one more attempt. `model`: which it gets if its request names none.

    `token` is the caller's own: the same call again is the same claim. `continues`: an attempt after the first goes
    on from what the earlier ones have said.
    """
    before, between, after = _started_around(generation_id, continues=False)
    continuing = _started_around(generation_id, continues=True)[2] if continues else b""
    failed = GenerationFailed(
        generation=generation_id,
        code="too_many_attempts",
        message=f"The answer was begun {max_attempts} times and never finished.",
        retryable=True,
    )

    def parse(reply: list[Any]) -> Claimed:
        match as_text(reply[0]):
            case "claimed":
                return Claimed("claimed", attempt=int(reply[1]), request=as_bytes(reply[2]))
            case "held":
                return Claimed("held", held_ms=int(reply[1]))
            case "stopped":
                return Claimed("stopped", status="stopped")
            case "failed":
                return Claimed("failed", status="failed")
            case "ended":
                return Claimed("ended", status=as_text(reply[1]))
            case _:
                return Claimed("gone")

    args: tuple[Arg, ...] = (generation_id, token, lease_ms, max_attempts, before, between, after)
    args += (to_json(model), encode(failed), continuing)
    return Call(load("claim"), keys.writer(generation_id), args, parse)


def _started_around(generation_id: str, *, continues: bool) -> list[bytes]:
    """Return what stands before, between and after the attempt's number and the model, which the script puts in."""
    mark = 987_654_321
    started = GenerationStarted(generation=generation_id, attempt=mark, model=str(mark), continues=continues)
    return re.split(rb'"?%d"?' % mark, encode(started))


def append(
    keys: ChatKeys,
    generation_id: str,
    *,
    attempt: int,
    index: int,
    lease_ms: int,
    events: Sequence[bytes] = (),
    ending: Last | None = None,
) -> Call[Appended]:
    """Append a batch; `index` numbers its first event within the attempt, from 1. Without events: the heartbeat."""

    def parse(reply: list[Any]) -> Appended:
        match as_text(reply[0]):
            case "ok":
                return Appended("ok", int(reply[1]), int(reply[2]), bool(int(reply[3])), as_text(reply[4]))
            case "ended":
                return Appended("ended", status=as_text(reply[1]))
            case "fenced":
                return Appended("fenced")
            case "gap":
                return Appended("gap", first=int(reply[1]))
            case _:
                return Appended("gone")

    args: tuple[Arg, ...] = (generation_id, attempt, index, lease_ms, ending or "", *events)
    return Call(load("append"), keys.writer(generation_id), args, parse)


def stop(keys: ChatKeys, generation_id: str, *, by: str, reason: str | None) -> Call[StopReply]:
    """Stop a generation. `by` tells the readers who asked."""

    def parse(reply: list[Any]) -> StopReply:
        outcome: Any = as_text(reply[0])
        return StopReply(outcome, as_text(reply[1]) if outcome == "ended" else "")

    event = encode(GenerationStopped(generation=generation_id, by=by, reason=reason))
    return Call(load("stop"), keys.writer(generation_id), (generation_id, event, STOPS), parse)


def lose(keys: ChatKeys, generation_id: str, *, silent_ms: int) -> Call[LoseReply]:
    """End a generation whose message is lost, if it has shown no sign of life for `silent_ms`."""
    failed = GenerationFailed(
        generation=generation_id,
        code="lost",
        message="The request was lost on its way to a worker.",
        retryable=True,
    )

    def parse(reply: list[Any]) -> LoseReply:
        outcome: Any = as_text(reply[0])
        return LoseReply(outcome)

    return Call(load("lose"), keys.writer(generation_id), (generation_id, encode(failed), silent_ms), parse)


def mark_played(keys: ChatKeys, reader: str, seq: int) -> Call[Played]:
    """Remember how far a reader has played."""

    def parse(reply: list[Any]) -> Played:
        outcome: Any = as_text(reply[0])
        return Played(outcome) if outcome == "gone" else Played(outcome, int(reply[1]))

    return Call(load("mark_played"), (keys.seq, keys.readers), (reader, seq), parse)


def erase(
    keys: ChatKeys, *, active: Sequence[str], generations: Sequence[str], request_ids: Sequence[str], known: int
) -> Call[bool]:
    """Erase the chat. `generations` and `request_ids` are all that the caller saw, `known` the size of `gens`.

    Returns False when the chat changed meanwhile.
    """
    chat = (keys.seq, keys.log, keys.head, keys.gens, keys.live, keys.readers)
    every = (*chat, *map(keys.gen, generations), *map(keys.request, request_ids))
    return Call(load("erase"), every, (" ".join(active), known, STOPS, *active), lambda r: as_text(r[0]) == "erased")


def withdraw(keys: ChatKeys, generation_id: str, request_id: str) -> Call[bool]:
    """Let the request be made again. Returns False when it has been, meanwhile."""
    return Call(load("withdraw"), (keys.request(request_id),), (generation_id,), lambda reply: bool(int(reply[0])))


def reads(of: Reads[T]) -> Call[T]:
    """Do by a script what `of` does by MULTI and EXEC. A command's key is its second word; DEL has more, TIME none."""
    keys = dict.fromkeys(
        str(key) for command in of.commands for key in (command[1:] if command[0] == "DEL" else command[1:2])
    )
    args = (word for command in of.commands for word in (len(command), *command))
    return Call(load("reads"), tuple(keys), tuple(args), of.parse)
