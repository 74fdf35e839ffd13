"""Figure 5: how long a reader waits for generation.stopped after a stop while the model is silent."""

from __future__ import annotations

import queue
import sys
import threading
import time
from pathlib import Path

from bench.harness.environment import Environment, ReadyChat
from bench.harness.report import Figure, at_most
from chunkspool import Spool
from chunkspool.demo.process import Process
from chunkspool.events import GenerationStarted, GenerationStopped
from chunkspool.settings import Settings
from chunkspool.store.client import connect

STOPS = 100
LIMIT = 250.0
PATIENCE = 30.0
ROOT = Path(__file__).parents[2]


def measure(environment: Environment) -> list[Figure]:
    """Stop another process's generations one by one, each watched by a reader with its own connection."""
    chats = [environment.new_queued_chat() for _ in range(STOPS)]
    names = [f"{chat.keys.chat_id}/{chat.generation_id}" for chat in chats]
    command = [sys.executable, "-m", "bench.processes.silent_worker", environment.url, *names]
    worker = Process.start("silent-worker", command, environment.folder / "logs", cwd=ROOT)
    try:
        with Spool.from_settings(Settings.checked({"redis_url": environment.url})) as spool:
            waits = sorted(_time_stop(environment, spool, chat) for chat in chats)
    finally:
        worker.terminate()
    median, p99 = waits[STOPS // 2], waits[STOPS * 99 // 100 - 1]
    detail = f"p50 {median:.1f} ms, longest {waits[-1]:.1f} ms"
    return [at_most(f"stop of a silent model, until a reader sees it, p99 of {STOPS}", p99, LIMIT, " ms", detail)]


def _time_stop(environment: Environment, spool: Spool, chat: ReadyChat) -> float:
    """Return the milliseconds from requesting the stop until the reader has its event."""
    seen: queue.Queue[tuple[type, float]] = queue.Queue()
    reader = threading.Thread(target=_read, args=(environment.url, chat, seen), daemon=True)
    reader.start()
    while seen.get(timeout=PATIENCE)[0] is not GenerationStarted:
        pass
    # The reader now follows live: further events can only arrive through its subscription.
    time.sleep(0.02)
    began = time.perf_counter()
    spool.stop(chat.keys.chat_id, chat.generation_id)
    kind, at = seen.get(timeout=PATIENCE)
    reader.join(PATIENCE)
    if kind is not GenerationStopped:
        raise RuntimeError(f"the reader saw {kind.__name__} instead of the stop")
    return (at - began) * 1000


def _read(url: str, chat: ReadyChat, seen: queue.Queue[tuple[type, float]]) -> None:
    client = connect(url)
    try:
        with Spool(client).subscribe(chat.keys.chat_id, until=chat.generation_id) as entries:
            for entry in entries:
                seen.put((type(entry.event), time.perf_counter()))
    finally:
        client.close()
