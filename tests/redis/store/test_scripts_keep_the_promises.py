"""Whatever is called in whatever order, and called again: the scripts answer and write what the promises say."""

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
from support.checker.raw_log import raw_chat
from support.checker.reference_model import MAX_ATTEMPTS, ReferenceChat, matches

from chunkspool.ids import new_generation_id
from chunkspool.states import OnActive
from chunkspool.store import scripts
from chunkspool.store.client import Store
from chunkspool.store.commands import ScriptCall
from chunkspool.store.keys import ChatKeys
from chunkspool.store.scripts import LastBatch

KEYS = ChatKeys("default", "chat")
LEASE_MS = TTL_MS = 3_600_000
WHICH = st.integers(0, 5)
SKEW = st.sampled_from([0, 0, 0, -2, -1, 1])
REQUESTS = st.sampled_from([None, None, "r1", "r2"])
ON_ACTIVE: st.SearchStrategy[OnActive] = st.sampled_from(["reject", "replace", "allow", "allow"])
ENDINGS: st.SearchStrategy[LastBatch | None] = st.sampled_from(
    [None, None, None, None, "released", "completed", "stopped", "failed"]
)
BUDGET = 10.0
"""Seconds after which no more histories are begun; there are `CHUNK` at least."""
CHUNK = 25


@dataclass(frozen=True, slots=True)
class Step:
    """A call that can be sent any number of times, and what the promises say to it."""

    call: ScriptCall[Any]
    promised: Callable[[ReferenceChat], Any]


class Chat(RuleBasedStateMachine):
    """One chat on a real server beside its model. Steps of several generations come in any order."""

    def __init__(self, client: Redis) -> None:
        """Begin with an empty server."""
        super().__init__()
        client.flushall()
        self.client = client
        self.store = Store(client)
        self.model = ReferenceChat()
        self.history: list[Step] = []
        self.tokens = 0
        self.seen = 0

    @precondition(lambda self: len(self.model.active) < 4)
    @rule(on_active=ON_ACTIVE, request_id=REQUESTS, stale=st.booleans())
    def enqueue(self, on_active: OnActive, request_id: str | None, stale: bool) -> None:
        """Ask for a generation; what was seen of the chat may be old."""
        one, request = new_generation_id(), b'{"n":%d}' % len(self.history)
        seen = () if on_active == "allow" else tuple(self.model.active[1:] if stale else self.model.active)
        call = scripts.enqueue(
            KEYS,
            one,
            request,
            model=None,
            active=seen,
            on_active=on_active,
            ttl_ms=TTL_MS,
            request_id=request_id,
        )
        self.take(Step(call, lambda chat: chat.enqueue(one, request_id, request, on_active, seen)))

    @precondition(lambda self: self.model.active)
    @rule(which=WHICH, dead=st.booleans(), continues=st.booleans())
    def claim(self, which: int, dead: bool, continues: bool) -> None:
        """Get the message, as a worker does; the worker that had it before may be dead."""
        one, token = self.one(which, self.model.active), self.new_token()
        if dead:
            self.lease_ends(one)
        call = scripts.claim(
            KEYS,
            one,
            token=token,
            lease_ms=LEASE_MS,
            max_attempts=MAX_ATTEMPTS,
            model=None,
            continues=continues,
        )
        self.take(Step(call, lambda chat: chat.claim(one, token, continues=continues)))

    @precondition(lambda self: self.running)
    @rule(which=WHICH, older=st.integers(0, 4), skew=SKEW, texts=st.integers(0, 3), ending=ENDINGS)
    def append(self, which: int, older: int, skew: int, texts: int, ending: LastBatch | None) -> None:
        """Write as an attempt, mostly the newest: what follows, some of it again, or after a gap."""
        one = self.one(which, self.running)
        self.take(self.appending(one, older=older == 4, skew=skew if texts else 0, texts=texts, ending=ending))

    @precondition(lambda self: self.running)
    @rule(which=WHICH)
    def say(self, which: int) -> None:
        """Write one more piece of text: what happens most."""
        self.take(self.appending(self.one(which, self.running)))

    @precondition(lambda self: len(self.model.generations) > 3)
    @rule(which=WHICH)
    def publish_fails(self, which: int) -> None:
        """End what could not be sent, or so it seems: a worker may have it, and it may have ended."""
        self.take(self.appending(self.one(which), attempt=0, texts=0, ending="failed"))

    @precondition(lambda self: self.model.requests)
    @rule(which=WHICH)
    def withdraw(self, which: int) -> None:
        """Let a request be made again, as is done where its message could not be sent."""
        request_id, one = list(self.model.requests.items())[which % len(self.model.requests)]
        self.take(Step(scripts.withdraw(KEYS, one, request_id), lambda chat: chat.withdraw(one, request_id)))

    @precondition(lambda self: len(self.model.generations) > 3)
    @rule(which=WHICH)
    def lose(self, which: int) -> None:
        """Give a generation up whose message is nowhere."""
        one = self.one(which)
        self.take(Step(scripts.lose(KEYS, one, silent_ms=0), lambda chat: chat.lose(one)))

    @precondition(lambda self: self.running)
    @rule(plan=st.lists(st.tuples(WHICH, st.integers(0, 2), ENDINGS), min_size=2, max_size=4))
    def append_many(self, plan: list[tuple[int, int, LastBatch | None]]) -> None:
        """Write for several generations in one pipeline, as a flusher does."""
        running = self.running
        steps = [self.appending(self.one(which, running), texts=texts, ending=ending) for which, texts, ending in plan]
        self.history += steps
        pipeline = self.client.pipeline(transaction=False)
        for step in steps:
            pipeline.eval(step.call.script.text, len(step.call.keys), *step.call.keys, *step.call.args)
        replies = [step.call.parse(reply) for step, reply in zip(steps, pipeline.execute(), strict=True)]
        assert replies == [step.promised(self.model) for step in steps]

    @precondition(lambda self: self.model.generations)
    @rule(which=WHICH, by=st.sampled_from(["user", "revoke"]))
    def stop(self, which: int, by: str) -> None:
        """Stop a generation."""
        one = self.one(which)
        self.take(Step(scripts.stop(KEYS, one, by=by, reason="r"), lambda chat: chat.stop(one, by, "r")))

    @precondition(lambda self: self.running)
    @rule(which=WHICH)
    def worker_dies(self, which: int) -> None:
        """Let a worker be heard of no more."""
        self.lease_ends(self.one(which, self.running))

    @precondition(lambda self: len(self.history) > 30)
    @rule(stale=st.booleans())
    def erase(self, stale: bool) -> None:
        """Erase the chat; what was seen of it may be old."""
        seen, every = tuple(self.model.active), tuple(self.model.generations)
        known = len(every) - stale
        requests = tuple(self.model.requests)
        call = scripts.erase(KEYS, active=seen, generation_ids=every, request_ids=requests, listed=known)
        self.take(Step(call, lambda chat: chat.erase(seen, known)))

    @precondition(lambda self: self.history)
    @rule(back=st.integers(0, 12))
    def repeat(self, back: int) -> None:
        """Send an earlier call once more: its reply was lost, or it came late."""
        self.send(self.history[-1 - back % len(self.history)])

    @invariant()
    def the_log_is_what_was_promised(self) -> None:
        """Look at what is new: it stands in its place, nothing else does, and the active generations are in order."""
        promised = self.model.log
        seen = min(self.seen, len(promised))
        length, added, active = self.now(f"{seen + 1}-0")
        assert length == len(promised)
        assert [entry_id.decode() for entry_id, _ in added] == [f"{seq + 1}-0" for seq in range(seen, len(promised))]
        for event, (_, fields) in zip(promised[seen:], added, strict=True):
            assert matches(event, fields[b"e"]), f"{fields} instead of {event}"
        assert (active or b"").decode().split() == self.model.active
        self.seen = len(promised)

    def teardown(self) -> None:
        """Look at the whole log once more; end what is left, then let the checker of raw logs judge it all."""
        self.seen = 0
        self.the_log_is_what_was_promised()
        for one in tuple(self.model.active):
            self.client.hdel(KEYS.gen(one), "lease")
            self.store.send(scripts.stop(KEYS, one, by="user", reason=None))
        assert check(raw_chat(self.client, KEYS.chat_id)) == []

    def now(self, first: str) -> tuple[int, list[Any], Any]:
        """Return the log's length, its entries from an id on, and what is active."""
        pipeline = self.client.pipeline()
        pipeline.xlen(KEYS.log)
        pipeline.xrange(KEYS.log, first)
        pipeline.hget(KEYS.head, "active")
        length, added, active = pipeline.execute()
        return length, added, active

    def take(self, step: Step) -> None:
        """Send a call for the first time."""
        self.history.append(step)
        self.send(step)

    def send(self, step: Step) -> None:
        """Send a call; the reply must be the promised one."""
        reply = self.store.send(step.call)
        if isinstance(reply, scripts.ClaimReply):
            reply = replace(reply, held_ms=0)
        assert reply == step.promised(self.model)

    @property
    def running(self) -> list[str]:
        """The generations that an attempt has."""
        return [one for one, generation in self.model.generations.items() if generation.status == "running"]

    def one(self, which: int, among: Iterable[str] | None = None) -> str:
        """Return one of the chat's generations, the youngest for 0."""
        every = list(self.model.generations if among is None else among)
        return every[-1 - which % len(every)]

    def lease_ends(self, one: str) -> None:
        """Let the lease of an attempt end now, if there is one."""
        if self.model.generations[one].alive:
            self.client.hset(KEYS.gen(one), "lease", "1")
            self.model.generations[one].alive = False

    def new_token(self) -> str:
        """Return a token that no claim had before."""
        self.tokens += 1
        return f"token-{self.tokens}"

    def appending(
        self,
        one: str,
        *,
        attempt: int | None = None,
        older: bool = False,
        skew: int = 0,
        texts: int = 1,
        ending: LastBatch | None = None,
    ) -> Step:
        """Return an append that begins `skew` events after the one that is next."""
        generation = self.model.generations[one]
        attempt = generation.attempt - older if attempt is None else attempt
        index = 1 if attempt == 0 else max(1, len(generation.seqs) + 1 + skew)
        said = [{"type": "text.delta", "text": f"{attempt}.{index + n}"} for n in range(texts)]
        ends = ending not in {None, "released"}
        events = [*said, {"type": f"generation.{ending}", "by": "producer"}] if ends else said
        encoded = [json.dumps({"generation": one, **event}).encode() for event in events]
        call = scripts.append(KEYS, one, attempt=attempt, index=index, lease_ms=LEASE_MS, events=encoded, ending=ending)
        return Step(call, lambda chat: chat.append(one, attempt, index, events, ending))


@pytest.mark.timeout(300)  # a failure is made small before it is shown
def test_scripts_keep_the_promises(client: Redis) -> None:
    """Promises 1 to 5: random histories of one chat, several generations interleaved, every call repeated."""
    began = time.monotonic()
    while time.monotonic() - began < BUDGET:
        run_state_machine_as_test(
            lambda: Chat(client),
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
