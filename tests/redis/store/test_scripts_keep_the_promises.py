"""Whatever is called, repeated and in whatever order: the scripts answer and write as promised."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from redis import Redis
from support.checker.check import check
from support.checker.raw_log import read_raw_chat
from support.checker.reference_model import MAX_ATTEMPTS, ReferenceChat, matches

from chunkspool.ids import new_generation_id
from chunkspool.states import OnActive
from chunkspool.store import removal, scripts
from chunkspool.store.client import Store
from chunkspool.store.commands import ScriptCall
from chunkspool.store.keys import ChatKeys
from chunkspool.store.scripts import LastBatch

pytestmark = pytest.mark.both_servers

KEYS = ChatKeys("default", "chat")
LEASE_MS = TTL_MS = 3_600_000
WHICH = st.integers(0, 5)
SKEW = st.sampled_from([0, 0, 0, -2, -1, 1])
REQUESTS = st.sampled_from([None, None, "r1", "r2"])
ON_ACTIVE: st.SearchStrategy[OnActive] = st.sampled_from(["reject", "replace", "allow", "queue"])
ENDINGS: st.SearchStrategy[LastBatch | None] = st.sampled_from(
    [None, None, None, None, "released", "abandoned", "completed", "stopped", "failed"]
)
BUDGET = 10.0
"""Seconds after which no more histories are started; at least `CHUNK` are run."""
CHUNK = 25


@dataclass(frozen=True, slots=True)
class RepeatableCall:
    """A call that can be sent any number of times, and its expected replies."""

    call: ScriptCall[Any]
    expected: Callable[[ReferenceChat], Any]


class ChatMachine(RuleBasedStateMachine):
    """One chat on a real server, next to its reference model. Steps of several generations come in any order."""

    def __init__(self, client: Redis) -> None:
        """Start with an empty server."""
        super().__init__()
        client.flushall()
        self.client = client
        self.store = Store(client)
        self.model = ReferenceChat()
        self.history: list[RepeatableCall] = []
        self.tokens = 0
        self.seen = 0

    @precondition(lambda self: len(self.model.active) < 4)
    @rule(on_active=ON_ACTIVE, request_id=REQUESTS, stale=st.booleans(), other=st.booleans(), few=st.booleans())
    def enqueue(self, on_active: OnActive, request_id: str | None, stale: bool, other: bool, few: bool) -> None:
        """Enqueue a generation; the caller's view of the chat may be outdated."""
        generation_id, request = new_generation_id(), b'{"n":%d}' % (len(self.history) if other else 0)
        seen = () if on_active in {"allow", "queue"} else tuple(self.model.active[1:] if stale else self.model.active)
        max_active = 2 if few else 32
        call = scripts.enqueue(
            KEYS,
            generation_id,
            request,
            model=None,
            active=seen,
            on_active=on_active,
            ttl_ms=TTL_MS,
            request_id=request_id,
            max_active=max_active,
        )
        asked = request_id, request, on_active, seen, max_active
        self.send_first(RepeatableCall(call, lambda chat: chat.enqueue(generation_id, *asked)))

    @precondition(lambda self: self.model.generations)
    @rule()
    def free_next(self) -> None:
        """Let the next begin, whoever has ended, if anybody has."""
        self.send_first(RepeatableCall(scripts.free_next(KEYS), lambda chat: chat.free_next()))

    @precondition(lambda self: self.model.active)
    @rule(which=WHICH, dead=st.booleans(), continues=st.booleans())
    def claim(self, which: int, dead: bool, continues: bool) -> None:
        """Claim like a worker that got the message; the worker before it may be dead."""
        generation_id, token = self.id_at(which, self.model.active), self.new_token()
        if dead:
            self.expire_lease(generation_id)
        call = scripts.claim(
            KEYS,
            generation_id,
            token=token,
            lease_ms=LEASE_MS,
            max_attempts=MAX_ATTEMPTS,
            model=None,
            continues=continues,
        )
        self.send_first(RepeatableCall(call, lambda chat: chat.claim(generation_id, token, continues=continues)))

    @precondition(lambda self: self.claimed_ids)
    @rule(which=WHICH, older=st.integers(0, 4), skew=SKEW, texts=st.integers(0, 3), ending=ENDINGS)
    def append(self, which: int, older: int, skew: int, texts: int, ending: LastBatch | None) -> None:
        """Append as an attempt, usually the newest: the next events, some of them again, or after a gap."""
        generation_id = self.id_at(which, self.claimed_ids)
        self.send_first(
            self.next_append(generation_id, older=older == 4, skew=skew if texts else 0, texts=texts, ending=ending)
        )

    @precondition(lambda self: self.claimed_ids)
    @rule(which=WHICH)
    def append_text(self, which: int) -> None:
        """Append one more piece of text: the most common step."""
        self.send_first(self.next_append(self.id_at(which, self.claimed_ids)))

    @precondition(lambda self: len(self.model.generations) > 3)
    @rule(which=WHICH, first=st.booleans())
    def fail_publish(self, which: int, first: bool) -> None:
        """End what could not be sent, or so it seems: a worker may have it, and it may have ended."""
        generation_id = self.id_at(which)
        request_id, token = self.model.generations[generation_id].request_id, generation_id if first else "again"
        call = scripts.unpublish(KEYS, generation_id, request_id, token)
        self.send_first(RepeatableCall(call, lambda chat: chat.unpublish(generation_id, request_id, token)))

    @precondition(lambda self: self.model.generations)
    @rule(which=WHICH)
    def publish_again(self, which: int) -> None:
        """Publish the message of a repeated request."""
        generation_id = self.id_at(which)
        self.send_first(
            RepeatableCall(
                scripts.publish_again(KEYS, generation_id, "again"),
                lambda chat: chat.publish_again(generation_id, "again"),
            )
        )

    @precondition(lambda self: len(self.model.generations) > 3)
    @rule(which=WHICH)
    def lose(self, which: int) -> None:
        """Give up a generation whose message is lost."""
        generation_id = self.id_at(which)
        self.send_first(
            RepeatableCall(scripts.lose(KEYS, generation_id, silent_ms=0), lambda chat: chat.lose(generation_id))
        )

    @precondition(lambda self: self.claimed_ids)
    @rule(plan=st.lists(st.tuples(WHICH, st.integers(0, 2), ENDINGS), min_size=2, max_size=4))
    def append_many(self, plan: list[tuple[int, int, LastBatch | None]]) -> None:
        """Append for several generations in one pipeline, like a flusher."""
        running = self.claimed_ids
        calls = [
            self.next_append(self.id_at(which, running), texts=texts, ending=ending) for which, texts, ending in plan
        ]
        self.history += calls
        pipeline = self.client.pipeline(transaction=False)
        for repeatable in calls:
            pipeline.eval(
                repeatable.call.script.text, len(repeatable.call.keys), *repeatable.call.keys, *repeatable.call.args
            )
        replies = [repeatable.call.parse(reply) for repeatable, reply in zip(calls, pipeline.execute(), strict=True)]
        assert list(map(without_size, replies)) == [repeatable.expected(self.model) for repeatable in calls]

    @precondition(lambda self: self.model.generations)
    @rule(which=WHICH, by=st.sampled_from(["user", "revoke"]))
    def stop(self, which: int, by: str) -> None:
        """Stop a generation."""
        generation_id = self.id_at(which)
        self.send_first(
            RepeatableCall(
                scripts.stop(KEYS, generation_id, by=by, reason="r"), lambda chat: chat.stop(generation_id, by, "r")
            )
        )

    @precondition(lambda self: self.claimed_ids)
    @rule(which=WHICH)
    def kill_worker(self, which: int) -> None:
        """End a worker's life without a trace."""
        self.expire_lease(self.id_at(which, self.claimed_ids))

    @precondition(lambda self: len(self.history) > 30)
    @rule(stale=st.booleans())
    def erase(self, stale: bool) -> None:
        """Erase the chat; the caller's view of it may be outdated."""
        seen, every = tuple(self.model.active), tuple(self.model.generations)
        known = len(every) - stale
        requests = tuple(self.model.requests)
        call = removal.erase(KEYS, active=seen, generation_ids=every, request_ids=requests, listed=known)
        self.send_first(RepeatableCall(call, lambda chat: chat.erase(seen, known)))

    @precondition(lambda self: self.history)
    @rule(back=st.integers(0, 12))
    def repeat(self, back: int) -> None:
        """Send an earlier call again: its reply was lost, or it arrived late."""
        self.send(self.history[-1 - back % len(self.history)])

    @invariant()
    def log_matches_the_model(self) -> None:
        """Check the new entries: exactly the expected ones, in place, and the active generations in order."""
        expected = self.model.log
        seen = min(self.seen, len(expected))
        length, added, active = self.read_state(f"{seen + 1}-0")
        assert length == len(expected)
        assert [entry_id.decode() for entry_id, _ in added] == [f"{seq + 1}-0" for seq in range(seen, len(expected))]
        for event, (_, fields) in zip(expected[seen:], added, strict=True):
            assert matches(event, fields[b"e"]), f"{fields} instead of {event}"
        assert (active or b"").decode().split() == self.model.active
        self.seen = len(expected)

    def teardown(self) -> None:
        """Check the whole log once more; end what is left, then let the raw-log checker judge it all."""
        self.seen = 0
        self.log_matches_the_model()
        for generation_id in tuple(self.model.active):
            self.client.hdel(KEYS.gen(generation_id), "lease")
            self.store.send(scripts.stop(KEYS, generation_id, by="user", reason=None))
        assert check(read_raw_chat(self.client, KEYS.chat_id)) == []

    def read_state(self, first: str) -> tuple[int, list[Any], Any]:
        """Return the log's length, its entries from an id on, and the active generations."""
        pipeline = self.client.pipeline()
        pipeline.xlen(KEYS.log)
        pipeline.xrange(KEYS.log, first)
        pipeline.hget(KEYS.head, "active")
        length, added, active = pipeline.execute()
        return length, added, active

    def send_first(self, repeatable: RepeatableCall) -> None:
        """Send a call for the first time."""
        self.history.append(repeatable)
        self.send(repeatable)

    def send(self, repeatable: RepeatableCall) -> None:
        """Send a call; the reply must match the reference model."""
        reply = self.store.send(repeatable.call)
        if isinstance(reply, scripts.ClaimReply):
            reply = replace(reply, held_ms=0)
        assert without_size(reply) == repeatable.expected(self.model)

    @property
    def claimed_ids(self) -> list[str]:
        """The generations that have an attempt."""
        return [
            generation_id
            for generation_id, generation in self.model.generations.items()
            if generation.status == "running"
        ]

    def id_at(self, which: int, among: Iterable[str] | None = None) -> str:
        """Return one of the chat's generation ids; 0 is the youngest."""
        every = list(self.model.generations if among is None else among)
        return every[-1 - which % len(every)]

    def expire_lease(self, generation_id: str) -> None:
        """Expire an attempt's lease now, if there is one."""
        if self.model.generations[generation_id].alive:
            self.client.hset(KEYS.gen(generation_id), "lease", "1")
            self.model.generations[generation_id].alive = False

    def new_token(self) -> str:
        """Return a token that no claim has used."""
        self.tokens += 1
        return f"token-{self.tokens}"

    def next_append(
        self,
        generation_id: str,
        *,
        attempt: int | None = None,
        older: bool = False,
        skew: int = 0,
        texts: int = 1,
        ending: LastBatch | None = None,
    ) -> RepeatableCall:
        """Return an append that starts `skew` events after the next one."""
        generation = self.model.generations[generation_id]
        attempt = generation.attempt - older if attempt is None else attempt
        index = 1 if attempt == 0 else max(1, len(generation.seqs) + 1 + skew)
        deltas = [{"type": "text.delta", "text": f"{attempt}.{index + n}"} for n in range(texts)]
        ends = ending not in {None, "released", "abandoned"}
        events = [*deltas, {"type": f"generation.{ending}", "by": "producer"}] if ends else deltas
        encoded = [json.dumps({"generation": generation_id, **event}).encode() for event in events]
        call = scripts.append(
            KEYS, generation_id, attempt=attempt, index=index, lease_ms=LEASE_MS, events=encoded, ending=ending
        )
        return RepeatableCall(call, lambda chat: chat.append(generation_id, attempt, index, events, ending))


def without_size(reply: object) -> object:
    """Return a reply without the size of the log, which an ending has when it is said for the first time."""
    return replace(reply, log_size=None) if isinstance(reply, scripts.AppendReply) else reply


@pytest.mark.timeout(300)  # a failing history is shrunk before it is shown
def test_scripts_keep_the_promises(client: Redis) -> None:
    """Promises 1 to 5 hold for random histories of one chat: interleaved generations, every call repeated."""
    began = time.monotonic()
    while time.monotonic() - began < BUDGET:
        run_state_machine_as_test(
            lambda: ChatMachine(client),
            settings=settings(
                max_examples=CHUNK,
                stateful_step_count=60,
                deadline=None,
                database=None,
                print_blob=True,
                phases=(Phase.explicit, Phase.generate, Phase.target, Phase.shrink),
                suppress_health_check=list(HealthCheck),
            ),
        )
