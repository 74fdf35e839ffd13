"""Write a chat by hand, batch by batch, and lose frames on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from redis import Redis
from support.chats.logs import CHAT

from chunkspool.events import GenerationCompleted, TextDelta, encode
from chunkspool.ids import new_generation_id
from chunkspool.states import EndState, OnActive
from chunkspool.store import scripts
from chunkspool.store.client import Store
from chunkspool.store.commands import ScriptCall
from chunkspool.store.keys import ChatKeys
from chunkspool.store.scripts import AppendReply


@dataclass(slots=True)
class HandwrittenChat:
    """A chat with one claimed generation; its log begins with generation.queued and generation.started."""

    client: Redis
    chat_id: str = CHAT
    tenant: str = "default"
    on_active: OnActive = "allow"
    generation_id: str = field(default_factory=new_generation_id)
    index: int = 1

    def __post_init__(self) -> None:
        """Enqueue the generation and claim it."""
        self.client.script_load(scripts.load("append").text)
        self.store.send(
            scripts.enqueue(
                self.keys, self.generation_id, b"{}", model=None, active=(), on_active=self.on_active, ttl_ms=600_000
            )
        )
        claim = scripts.claim(
            self.keys, self.generation_id, token=self.generation_id, lease_ms=60_000, max_attempts=3, model=None
        )
        assert self.store.send(claim).attempt == 1

    @property
    def keys(self) -> ChatKeys:
        """The chat's keys."""
        return ChatKeys(self.tenant, self.chat_id)

    @property
    def store(self) -> Store:
        """A store on the client."""
        return Store(self.client)

    def append(self, *texts: str) -> int:
        """Append texts in one frame; return the last one's seq."""
        return self.store.send(self._append_call(texts)).last

    def append_each(self, *texts: str) -> int:
        """Append texts in a frame each, in one round trip; return the last one's seq."""
        pipeline = self.client.pipeline(transaction=False)
        for text in texts:
            call = self._append_call([text])
            pipeline.evalsha(call.script.sha, len(call.keys), *call.keys, *call.args)
        last: int = pipeline.execute()[-1][2]
        return last

    def append_raw(self, event: bytes) -> int:
        """Append these bytes, whether they are an event or not."""
        return self.store.send(self._append([event])).last

    def append_without_frame(self, *texts: str) -> int:
        """Append texts and lose their frame."""
        return self.store.send(self._without_frame(self._append_call(texts))).last

    def complete(self) -> int:
        """Complete the generation; return the ending's seq."""
        return self.store.send(self._ending()).last

    def complete_without_frame(self) -> int:
        """Complete the generation and lose the frame."""
        return self.store.send(self._without_frame(self._ending())).last

    def _append_call(self, texts: Sequence[str]) -> ScriptCall[AppendReply]:
        return self._append([encode(TextDelta(generation_id=self.generation_id, text=text)) for text in texts])

    def _ending(self) -> ScriptCall[AppendReply]:
        return self._append([encode(GenerationCompleted(generation_id=self.generation_id))], "completed")

    def _append(self, events: Sequence[bytes], ending: EndState | None = None) -> ScriptCall[AppendReply]:
        index, self.index = self.index, self.index + len(events)
        return scripts.append(
            self.keys, self.generation_id, attempt=1, index=index, lease_ms=60_000, events=events, ending=ending
        )

    def _without_frame(self, call: ScriptCall[AppendReply]) -> ScriptCall[AppendReply]:
        return replace(call, keys=tuple("cs:nobody" if key == self.keys.live else key for key in call.keys))
