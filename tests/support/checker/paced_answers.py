"""Ask the paced model through workers, and let the checker judge the result."""

from __future__ import annotations

import threading
from collections.abc import Collection
from concurrent.futures import Future
from itertools import islice
from typing import Any

from redis import Redis
from support.chats.logs import ENDINGS, LogEntry, of_generation, read_log
from support.checker.check import check
from support.checker.observations import EnqueuedGeneration, Observations, Reading
from support.checker.raw_log import read_raw_chat
from support.models.paced_model import ModelCall
from support.models.paced_model_process import ModelProcess, output_of
from support.waiting import eventually

from chunkspool import Generation, Spool
from chunkspool.store.keys import ChatKeys


def paced_params(pieces: int = 10, pace: float = 0.05, **more: Any) -> dict[str, Any]:
    """Return params for the paced model: this many pieces, with this pause in seconds before each."""
    return {"paced": {"pieces": pieces, "pace": pace, **more}}


def ask(spool: Spool, chat_id: str, params: dict[str, Any]) -> Generation:
    """Enqueue a generation; the chat id is its prompt, by which `fetch_calls_of` finds the calls."""
    return spool.enqueue(chat_id, chat_id, params=params)


def start_generation(spool: Spool, chat_id: str, params: dict[str, Any], *, deltas: int = 1) -> Generation:
    """Start a generation; return once this many deltas are there."""
    asked = ask(spool, chat_id, params)
    with spool.subscribe(chat_id, asked.after) as entries:
        said = (entry for entry in entries if entry.type == "text.delta")
        assert len(list(islice(said, deltas))) == deltas
    return asked


def fetch_calls_of(model: ModelProcess, chat_id: str) -> list[ModelCall]:
    """Return a chat's model calls, without refused ones."""
    return [call for call in model.fetch_calls() if call.prompt == chat_id and not call.refused]


def read_starts_of(client: Redis, asked: Generation) -> list[dict[str, Any]]:
    """Return the generation's `generation.started` events so far."""
    return [line.event for line in read_log_of_generation(client, asked) if line.type == "generation.started"]


def read_log_of_generation(client: Redis, asked: Generation) -> list[LogEntry]:
    """Return the generation's log so far."""
    return of_generation(read_log(client, ChatKeys("default", asked.chat_id)), asked.generation_id)


def wait_for_attempt(client: Redis, asked: Generation, attempt: int, timeout: float = 30) -> dict[str, Any]:
    """Wait for this attempt; return its `generation.started`."""
    starts = eventually(lambda: [one for one in read_starts_of(client, asked) if one["attempt"] == attempt], timeout)
    return starts[0]


def start_reading(spool: Spool, asked: Generation) -> Future[Reading]:
    """Read the generation from its beginning, in a thread that ends with its ending."""
    future: Future[Reading] = Future()
    connected = threading.Event()

    def read() -> None:
        got: list[tuple[int, bytes]] = []
        try:
            with spool.subscribe(asked.chat_id, asked.after, until=asked.generation_id) as entries:
                connected.set()
                got.extend((entry.seq, entry.raw) for entry in entries)
            future.set_result(Reading("reader", asked.after, tuple(got), until=asked.generation_id, ended=True))
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
            future.set_exception(error)

    # A daemon, so that a failed test does not wait for an ending that never comes.
    threading.Thread(target=read, daemon=True).start()
    assert connected.wait(30)
    return future


def assert_promises_kept(
    client: Redis,
    model: ModelProcess,
    asked: Generation,
    *readings: Reading,
    stopped_by: str | None = None,
    may_fail: Collection[str] = (),
    within: float = 30,
) -> None:
    """Wait for the ending, for so many seconds; fail unless the chat keeps every promise that the checker knows."""
    eventually(lambda: read_log_of_generation(client, asked)[-1].type in ENDINGS, within)
    calls = tuple(output_of(call) for call in fetch_calls_of(model, asked.chat_id))
    stopped = frozenset({stopped_by} if stopped_by else ())
    known = EnqueuedGeneration(
        asked.generation_id, calls, stopped, stop_accepted=bool(stopped), may_fail=frozenset(may_fail)
    )
    found = check(read_raw_chat(client, asked.chat_id), Observations((known,), readings))
    assert not found, "\n".join(map(str, found))
