"""Whatever is called in whatever order, and called again: the scripts answer and write what the promises say."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from redis import Redis
from support.checker import check
from support.promised import MAX_ATTEMPTS, PromisedChat, agrees
from support.raw_log import raw_chat

from chunkspool import scripts
from chunkspool.calls import Call
from chunkspool.ids import new_generation_id
from chunkspool.keys import ChatKeys
from chunkspool.scripts import EndState, OnActive
from chunkspool.store import Store

KEYS = ChatKeys("default", "chat")
LEASE_MS = TTL_MS = 3_600_000
WHICH = st.integers(0, 5)
SKEW = st.sampled_from([0, 0, 0, -2, -1, 1])
REQUESTS = st.sampled_from([None, None, "r1", "r2"])
ON_ACTIVE: st.SearchStrategy[OnActive] = st.sampled_from(["reject", "replace", "allow", "allow"])
ENDINGS: st.SearchStrategy[EndState | None] = st.sampled_from([None, None, None, "completed", "stopped", "failed"])


@dataclass(frozen=True, slots=True)
class Step:
    """A call that can be sent any number of times, and what the promises say to it."""

    call: Call[Any]
    promised: Callable[[PromisedChat], Any]


class Chat(RuleBasedStateMachine):
    """One chat on a real server beside its model. Steps of several generations come in any order."""

    def __init__(self, client: Redis) -> None:
        """Begin with an empty server."""
        super().__init__()
        client.flushall()
        self.client = client
        self.store = Store(client)
        self.model = PromisedChat()
        self.history: list[Step] = []
        self.tokens = 0

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
    @rule(which=WHICH, dead=st.booleans())
    def claim(self, which: int, dead: bool) -> None:
        """Get the message, as a worker does; the worker that had it before may be dead."""
        one, token = self.one(which, self.model.active), self.new_token()
        if dead:
            self.lease_ends(one)
        claim = {"token": token, "lease_ms": LEASE_MS, "max_attempts": MAX_ATTEMPTS, "model": None}
        self.take(Step(scripts.claim(KEYS, one, **claim), lambda chat: chat.claim(one, token)))

    @precondition(lambda self: self.running)
    @rule(which=WHICH, older=st.integers(0, 4), skew=SKEW, texts=st.integers(0, 3), ending=ENDINGS)
    def append(self, which: int, older: int, skew: int, texts: int, ending: EndState | None) -> None:
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

    @precondition(lambda self: self.running)
    @rule(plan=st.lists(st.tuples(WHICH, st.integers(0, 2), ENDINGS), min_size=2, max_size=4))
    def append_many(self, plan: list[tuple[int, int, EndState | None]]) -> None:
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
        call = scripts.erase(KEYS, active=seen, generations=every, request_ids=requests, known=known)
        self.take(Step(call, lambda chat: chat.erase(seen, known)))

    @precondition(lambda self: self.history)
    @rule(back=st.integers(0, 12))
    def repeat(self, back: int) -> None:
        """Send an earlier call once more: its reply was lost, or it came late."""
        self.send(self.history[-1 - back % len(self.history)])

    @invariant()
    def the_log_is_what_was_promised(self) -> None:
        """Seqs 1 to n, each event in its place, and the active generations in their order."""
        chat = raw_chat(self.client, KEYS.chat_id)
        assert [entry.id for entry in chat.entries] == [f"{seq + 1}-0" for seq in range(len(self.model.log))]
        for promised, entry in zip(self.model.log, chat.entries, strict=True):
            assert agrees(promised, entry.data), f"{entry} instead of {promised}"
        active: Any = self.client.hget(KEYS.head, "active")
        assert (active or b"").decode().split() == self.model.active

    def teardown(self) -> None:
        """End what is left, then let the checker of raw logs judge it all."""
        for one in tuple(self.model.active):
            self.client.hdel(KEYS.gen(one), "lease")
            self.store.send(scripts.stop(KEYS, one, by="user", reason=None))
        assert check(raw_chat(self.client, KEYS.chat_id)) == []

    def take(self, step: Step) -> None:
        """Send a call for the first time."""
        self.history.append(step)
        self.send(step)

    def send(self, step: Step) -> None:
        """Send a call; the reply must be the promised one."""
        reply = self.store.send(step.call)
        if isinstance(reply, scripts.Claimed):
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
        ending: EndState | None = None,
    ) -> Step:
        """Return an append that begins `skew` events after the one that is next."""
        generation = self.model.generations[one]
        attempt = generation.attempt - older if attempt is None else attempt
        index = 1 if attempt == 0 else max(1, len(generation.seqs) + 1 + skew)
        said = [{"type": "text.delta", "text": f"{attempt}.{index + n}"} for n in range(texts)]
        events = [*said, {"type": f"generation.{ending}", "by": "producer"}] if ending else said
        encoded = [json.dumps({"generation": one, **event}).encode() for event in events]
        call = scripts.append(KEYS, one, attempt=attempt, index=index, lease_ms=LEASE_MS, events=encoded, ending=ending)
        return Step(call, lambda chat: chat.append(one, attempt, index, events, ending))


@pytest.mark.timeout(300)  # a failure is made small before it is shown
def test_scripts_keep_the_promises(client: Redis) -> None:
    """Promises 1 to 5 and 10: random histories of one chat, several generations interleaved, every call repeated."""
    run_state_machine_as_test(
        lambda: Chat(client),
        settings=settings(
            max_examples=200,
            stateful_step_count=60,
            deadline=None,
            database=None,
            print_blob=True,
            phases=(Phase.explicit, Phase.generate, Phase.target, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        ),
    )
