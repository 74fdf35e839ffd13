"""A fork is a chat of its own: what another one held up to an event, and nothing of it that lives on elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from redis import Redis
from support.chats.generated_entries import random_log
from support.readers.blocking_spool import SPOOL_KINDS, BlockingSpool, open_spool
from support.servers.contents import find_keys_containing, list_keys, read_contents
from support.waiting import eventually

from chunkspool import Spool, fold
from chunkspool.effects import Effect, SendAll
from chunkspool.errors import (
    ChatExists,
    ChatNotFound,
    ChunkspoolError,
    CorruptLog,
    CursorAhead,
    CursorExpired,
    GenerationNotFound,
    InvalidCursor,
    InvalidId,
    InvalidInput,
    InvalidRequest,
    LimitExceeded,
    StoreFull,
    StoreUnavailable,
)
from chunkspool.operations.fork import fork
from chunkspool.results import Fork
from chunkspool.store.blocks import BLOCK_EVENTS
from chunkspool.store.client import Store
from chunkspool.store.forks import COPY_MS, STEP_EVENTS
from chunkspool.store.keys import ChatKeys
from chunkspool.store.schedule import hash_of

SOURCE, COPY = ChatKeys("default", "source"), ChatKeys("default", "fork")
SECRET = "unmistakable"


@pytest.fixture(params=SPOOL_KINDS)
def talk(request: pytest.FixtureRequest, redis_url: str) -> Iterator[BlockingSpool]:
    """Provide a spool of each kind that keeps messages."""
    with open_spool(request.param, redis_url, keep_messages=True) as spool:
        yield spool


def say(spool: Any, prompt: str, text: str = "Yes.", chat: str = "source", **options: Any) -> str:
    """Ask and answer; return the generation's id."""
    made = spool.enqueue(chat, prompt, **options)
    write(spool, made.generation_id, text, chat)
    return str(made.generation_id)


def write(spool: Any, generation_id: str, text: str = "Yes.", chat: str = "source") -> None:
    """Play the worker."""
    run: Callable[..., Any] = spool.run_producer
    run(chat, generation_id, lambda out: out.text(text))


def stored(client: Redis, keys: ChatKeys) -> list[tuple[int, bytes, bytes]]:
    """Return a log as it is in Redis: seq, time and event."""
    return [(int(one.split(b"-")[0]), fields[b"t"], fields[b"e"]) for one, fields in client.xrange(keys.log)]


def fill(client: Redis, keys: ChatKeys, number: int, first: int = 1, size: int = 1) -> None:
    """Write so many events of one generation by hand, and as many ms apart."""
    pipeline = client.pipeline(transaction=False)
    raw = b'{"type":"text.delta","generation":"g","text":"%b"}' % (b"x" * size)
    for seq in range(first, first + number):
        pipeline.xadd(keys.log, {"t": 1_790_000_000_000 + seq, "e": raw}, id=f"{seq}-0")
    pipeline.set(keys.seq, first + number - 1)
    pipeline.hset(keys.head, mapping={"log": "abcdef012345", "born": 1})
    for key in (keys.log, keys.seq, keys.head):
        pipeline.expire(key, 600)
    pipeline.execute()


def counted(client: Redis, scope: str = "default") -> dict[str, int]:
    """Return what each chat counts for."""
    sizes = client.hgetall(f"cs:{{index}}:sizes:{scope}")
    total = int(sizes.pop(b"/", 0))
    found = {chat.decode(): int(text.split()[0]) for chat, text in sizes.items()}
    assert total == sum(found.values())
    return found


def read_settled(client: Redis, *chats: str) -> dict[bytes, Any]:
    """Return what the server holds when the threads of the producers have told what these chats take."""
    eventually(lambda: set(chats) <= set(counted(client)))
    eventually(lambda: not client.zcard("cs:{index}:running:chunkspool"))
    return read_contents(client)


def test_a_fork_has_what_its_source_had(talk: BlockingSpool, client: Redis) -> None:
    """Up to every event: the same bytes, seqs and times, and the same answers as the source had then."""
    for n in range(2):
        say(talk, f"question {n}")
    log = stored(client, SOURCE)
    events = [entry.event for entry in talk.read("source")]
    for at in range(1, len(log) + 1):
        made: Fork = talk.fork("source", at, to=f"fork-{at}")
        copied = stored(client, ChatKeys("default", f"fork-{at}"))
        assert copied[:at] == log[:at]
        answers = talk.snapshot(f"fork-{at}").answers
        assert [(one.text, one.asked) for one in answers] == [(one.text, one.asked) for one in fold(events[:at])]
        assert {one.state for one in answers} <= {"completed", "stopped"}
        assert made == Fork(f"fork-{at}", len(copied), talk.snapshot(f"fork-{at}").cursor)


def test_all_of_a_chat_is_forked_unless_it_is_said(talk: BlockingSpool, client: Redis) -> None:
    """As it stands; an entry's cursor says the same as its seq."""
    say(talk, "question")
    talk.fork("source", to="whole")
    last = talk.read("source")[-1]
    assert talk.fork("source", at=last.cursor, to="fork").seq == last.seq
    assert stored(client, ChatKeys("default", "whole")) == stored(client, COPY) == stored(client, SOURCE)


def test_what_goes_on_in_the_source_is_stopped_in_the_fork(talk: BlockingSpool, client: Redis) -> None:
    """By "fork", and only there: its worker writes on in the source."""
    made = talk.enqueue("source", "question")
    waiting = talk.enqueue("source", "another", on_active="allow")
    seen: list[Any] = []

    def write_half(out: Any) -> None:
        out.text("half")
        eventually(lambda: b"half" in client.xrevrange(SOURCE.log, count=1)[0][1][b"e"])
        seen.append(stored(client, SOURCE))
        with Spool.from_url(talk.settings.log.redis_url) as other:
            other.fork("source", to="fork")
        out.text(" and the rest")

    talk.run_producer("source", made.generation_id, write_half)
    answers = {one.generation_id: one for one in talk.snapshot("fork").answers}
    for generation_id, text in ((made.generation_id, "half"), (waiting.generation_id, "")):
        answer = answers[generation_id]
        assert (answer.state, answer.stopped_by, answer.text) == ("stopped", "fork", text)
    assert talk.status("fork").active == ()
    assert stored(client, COPY)[: len(seen[0])] == seen[0]
    assert [one.state for one in talk.snapshot("source").answers] == ["completed", "queued"]
    with pytest.raises(GenerationNotFound):
        talk.stop("fork", made.generation_id)


def test_a_question_brings_its_generation_into_the_fork(talk: BlockingSpool, client: Redis) -> None:
    """At any of its messages; so an edited question replaces the first one in the fork, too, and is no turn more."""
    first = say(talk, "first")
    two, edit = ([{"role": "user", "content": one} for one in said] for said in (("second", "more"), ("edited", "too")))
    second = talk.enqueue("source", messages=two).generation_id
    write(talk, second)
    third = talk.enqueue("source", messages=edit, replaces=second).generation_id
    write(talk, third, "Never seen.")
    entries = talk.read("source")
    (*asked, queued) = [entry for entry in entries if entry.generation_id == third][:3]
    assert [entry.type for entry in (*asked, queued)] == ["message", "message", "generation.queued"]
    log = stored(client, SOURCE)
    for number, entry in enumerate((*asked, queued)):
        name = f"fork-{number}"
        assert talk.fork("source", entry.cursor, to=name).seq == queued.seq + 1
        copied = stored(client, ChatKeys("default", name))
        assert copied[:-1] == log[: queued.seq]
        one, edited = talk.snapshot(name).conversation
        assert (one.answer.generation_id, edited.versions) == (first, (second, third))
        assert [message.content for message in edited.messages] == ["edited", "too"]
        assert (edited.answer.state, edited.answer.stopped_by, edited.answer.text) == ("stopped", "fork", "")
    talk.fork("source", asked[0].seq - 1, to="before")
    assert [turn.answer.generation_id for turn in talk.snapshot("before").conversation] == [first, second]


def test_a_question_that_came_during_an_answer_brings_its_generation(talk: BlockingSpool, client: Redis) -> None:
    """Both are stopped in the fork; nothing that was written behind the question comes along."""
    made = talk.enqueue("source", "first")
    during: list[str] = []

    def write_around(out: Any) -> None:
        out.text("before ")
        eventually(lambda: b"before" in client.xrevrange(SOURCE.log, count=1)[0][1][b"e"])
        with Spool.from_url(talk.settings.log.redis_url) as other:
            asked = other.enqueue("source", "second", on_active="allow", keep_messages=True)
        during.append(asked.generation_id)
        out.text("behind")

    talk.run_producer("source", made.generation_id, write_around)
    (question,) = [one for one in talk.read("source") if one.type == "message" and one.generation_id == during[0]]
    assert talk.fork("source", question.seq, to="fork").seq == question.seq + 3
    assert stored(client, COPY)[:-2] == stored(client, SOURCE)[: question.seq + 1]
    first, second = talk.snapshot("fork").conversation
    assert [(turn.answer.generation_id, turn.answer.text) for turn in (first, second)] == [
        (made.generation_id, "before "),
        (during[0], ""),
    ]
    assert {turn.answer.stopped_by for turn in (first, second)} == {"fork"}
    assert [turn.messages[0].content for turn in (first, second)] == ["first", "second"]


def test_a_message_that_has_no_generation_brings_nothing(client: Redis, spool: Spool) -> None:
    """In a log that somebody has spoiled, the copy ends where it was said to."""
    fill(client, SOURCE, 3)
    lost = b'{"type":"message","generation":"lost","id":"m","role":"user","content":"?"}'
    other = b'{"type":"text.delta","generation":"g","text":"x"}'
    client.set(SOURCE.seq, 5, keepttl=True)
    for seq, raw in ((4, lost), (5, other)):
        client.xadd(SOURCE.log, {"t": 1_790_000_000_000 + seq, "e": raw}, id=f"{seq}-0")
    spool.fork("source", 4, to="fork")
    assert stored(client, COPY)[:4] == stored(client, SOURCE)[:4]
    assert [one.type for one in spool.read("fork")][4:] == ["generation.stopped"] * 2


@pytest.mark.parametrize("erased", ["source", "fork"])
def test_each_is_erased_for_itself(talk: BlockingSpool, client: Redis, erased: str) -> None:
    """The other one is whole, byte for byte; of the erased one, the server holds nothing."""
    say(talk, "question", owner="ada")
    talk.set_title("source", "Title")
    talk.fork("source", to="fork", owner="ada")
    say(talk, SECRET, SECRET, chat=erased, owner="ada")
    client.delete("chunkspool")  # the broker's list, which no worker takes from
    read_settled(client, "source", "fork")
    kept = COPY if erased == "source" else SOURCE
    of_kept = str(kept.log).removesuffix("log")
    before = {key: value for key, value in read_contents(client).items() if key.decode().startswith(of_kept)}
    assert len(before) > 3
    talk.erase(erased)
    after = read_contents(client)
    assert {key: value for key, value in after.items() if key.decode().startswith(of_kept)} == before
    assert [key for key in after if key.decode().startswith(f"cs:{{default/{erased}}}")] == []
    assert find_keys_containing(client, SECRET) == []
    assert [key for key in find_keys_containing(client, erased) if ":place:" not in key] == []
    assert [one.chat_id for one in talk.chats("ada").chats] == [kept.chat_id]
    say(talk, "more", chat=kept.chat_id)
    talk.erase(kept.chat_id)
    assert list(counted(client)) == []


def test_a_fork_goes_on(talk: BlockingSpool, client: Redis) -> None:
    """It is asked, replayed, followed and folded as any chat; another version of an answer takes its place."""
    first = say(talk, "one", "1")
    second = say(talk, "two", "2")
    talk.fork("source", to="fork")
    before = stored(client, SOURCE)
    with pytest.raises(InvalidId):
        talk.enqueue("fork", replaces="no such id")
    again = talk.enqueue("fork", replaces=second)
    write(talk, again.generation_id, "zwei", "fork")
    say(talk, "three", "3", chat="fork")
    assert [entry.raw for entry in talk.follow("fork")] == [raw for _, _, raw in stored(client, COPY)]
    turns = talk.snapshot("fork").conversation
    assert [(turn.messages[0].content, turn.answer.text) for turn in turns] == [
        ("one", "1"),
        ("two", "zwei"),
        ("three", "3"),
    ]
    assert turns[1].versions == (second, again.generation_id)
    made = talk.enqueue("fork", "four", history=True)
    given: list[Any] = []
    talk.run_producer("fork", made.generation_id, lambda out: given.extend(out.request.messages))
    assert [one["content"] for one in given] == ["one", "1", "two", "zwei", "three", "3", "four"]
    say(talk, "other", chat="fork", replaces=first)
    assert [turn.messages[0].content for turn in talk.snapshot("fork").conversation] == ["other"]
    assert stored(client, SOURCE) == before


def test_a_fork_knows_what_was_said_last(talk: BlockingSpool) -> None:
    """A client that repeats the conversation adds only what is new to it."""
    said = [{"role": "user", "content": f"{n}"} for n in range(3)]
    made = talk.enqueue("source", messages=said[:2])
    talk.stop("source", made.generation_id)
    talk.fork("source", to="fork")
    for chat in ("source", "fork"):
        talk.enqueue(chat, messages=said)
    asked = [[message.content for message in one.asked] for one in talk.snapshot("source").answers]
    assert asked == [["0", "1"], ["2"]]
    assert asked == [[message.content for message in one.asked] for one in talk.snapshot("fork").answers]


def test_a_cursor_of_the_source_is_none_of_the_fork(talk: BlockingSpool) -> None:
    """The fork's log is another one, and says so; the seqs are the same."""
    say(talk, "question")
    talk.fork("source", to="fork")
    cursor = talk.read("source")[1].cursor
    with pytest.raises(CursorExpired):
        talk.read("fork", cursor)
    assert [one.raw for one in talk.read("fork", 2)] == [one.raw for one in talk.read("source", 2)]


def test_a_fork_is_listed(talk: BlockingSpool, client: Redis) -> None:
    """In front, with the title of its source, for its own owner, and counted with what it takes."""
    say(talk, "question", owner="ada")
    talk.set_title("source", "Zürich")
    talk.fork("source", to="fork", owner="bob")
    assert [(one.chat_id, one.title) for one in talk.chats().chats] == [("fork", "Zürich"), ("source", "Zürich")]
    assert [one.chat_id for one in talk.chats("ada").chats] == ["source"]
    assert [one.chat_id for one in talk.chats("bob").chats] == ["fork"]
    assert counted(client) == {name: client.memory_usage(ChatKeys("default", name).log) for name in ("fork", "source")}
    assert list(counted(client, f"default/{hash_of('default', 'bob')}")) == ["fork"]


def test_a_fork_is_kept_for_as_long_as_was_said(talk: BlockingSpool, client: Redis) -> None:
    """Whatever is asked in it keeps it longer, and never less; without a ttl, the tenant's policy counts."""
    say(talk, "question", ttl=60)
    talk.fork("source", to="fork", ttl=5000)
    say(talk, "question", chat="fork", ttl=60)
    assert 4_900_000 < client.pttl(COPY.log) <= 5_000_000
    say(talk, "question", chat="fork", ttl=9000)
    assert 8_900_000 < client.pttl(COPY.log) <= 9_000_000
    talk.set_policy(ttl=7000)
    talk.fork("source", to="other")
    other = ChatKeys("default", "other")
    week = 7 * 86_400_000
    assert 6_900_000 < client.pttl(other.log) <= 7_000_000
    assert week < client.pttl(other.seq) <= client.pttl(other.head) + 1000 <= week + 7_001_000
    assert all(client.pttl(key) > 0 for key in client.keys("cs:*"))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"at": 0}, InvalidInput),
        ({"at": -1}, InvalidCursor),
        ({"at": "1; DROP"}, InvalidCursor),
        ({"at": True}, InvalidCursor),
        ({"at": 2**60}, InvalidCursor),
        ({"at": 99}, CursorAhead),
        ({"at": "2.000000000000-1"}, CursorExpired),
        ({"to": "source"}, InvalidInput),
        ({"to": ""}, InvalidId),
        ({"to": "a b"}, InvalidId),
        ({"to": "}:seq"}, InvalidId),
        ({"to": "x" * 129}, InvalidId),
        ({"owner": "no one"}, InvalidId),
        ({"ttl": 0}, InvalidRequest),
        ({"ttl": float("nan")}, InvalidRequest),
    ],
)
def test_a_wrong_argument_leaves_nothing(
    talk: BlockingSpool, client: Redis, options: dict[str, Any], error: type[ChunkspoolError]
) -> None:
    """It is an error that says what is wrong; the server holds what it held."""
    say(talk, "question")
    before = read_settled(client, "source")
    with pytest.raises(error):
        talk.fork("source", **{"to": "fork", **options})
    assert read_contents(client) == before


def test_there_is_no_fork_of_nothing(talk: BlockingSpool, client: Redis) -> None:
    """Of a chat that does not exist, nor of one whose log has expired."""
    with pytest.raises(ChatNotFound):
        talk.fork("source", to="fork")
    say(talk, "question")
    client.delete(SOURCE.log)
    for at in (None, 1, 4):
        with pytest.raises(CursorExpired):
            talk.fork("source", at, to="fork")
    assert [key for key in list_keys(client) if "fork" in key] == []


def test_a_fork_takes_no_chats_place(talk: BlockingSpool, client: Redis) -> None:
    """Neither that of a chat, nor of one whose log has expired but whose readers may come back."""
    say(talk, "question")
    say(talk, "precious", chat="fork", owner="ada")
    before = read_settled(client, "source", "fork")
    with pytest.raises(ChatExists):
        talk.fork("source", to="fork", owner="bob")
    assert read_contents(client) == before
    client.delete(COPY.log)
    with pytest.raises(ChatExists):
        talk.fork("source", to="fork")
    talk.erase("fork")
    talk.fork("source", to="fork")
    assert stored(client, COPY) == stored(client, SOURCE)


def test_a_log_whose_beginning_has_expired_is_forked_from_there_on(talk: BlockingSpool, client: Redis) -> None:
    """The seqs stay as they are: a reader of the fork is told what a reader of the source is."""
    say(talk, "gone")
    client.delete(SOURCE.log)
    say(talk, "kept")
    first = stored(client, SOURCE)[0][0]
    assert first > 1
    with pytest.raises(CursorExpired) as expired:
        talk.fork("source", first - 1, to="fork")
    assert (expired.value.first, expired.value.last) == (first, talk.status("source").last)
    talk.fork("source", to="fork")
    assert stored(client, COPY) == stored(client, SOURCE)
    with pytest.raises(CursorExpired):
        talk.read("fork")
    assert len(talk.read("fork", first - 1)) == len(stored(client, SOURCE))
    assert say(talk, "more", chat="fork") in {one.generation_id for one in talk.snapshot("fork").answers}


def test_what_nobody_can_read_is_not_forked(talk: BlockingSpool, client: Redis) -> None:
    """It could be read by nobody in the fork, either; up to there, the chat can be forked."""
    say(talk, "question")
    last = talk.status("source").last
    client.xadd(SOURCE.log, {"t": 1, "e": b'{"type":"text.delta"}'}, id=f"{last + 1}-0")
    client.set(SOURCE.seq, last + 1, keepttl=True)
    with pytest.raises(CorruptLog):
        talk.fork("source", to="fork")
    assert [key for key in list_keys(client) if "default/fork" in key] == []
    assert talk.fork("source", last, to="fork").seq == last


def test_a_long_chat_is_forked(talk: BlockingSpool, client: Redis) -> None:
    """In steps; also one with large events. The snapshot is the source's, by a digest of its own."""
    number = BLOCK_EVENTS + 2 * STEP_EVENTS + 1
    fill(client, SOURCE, number)
    talk.fork("source", number, to="fork")
    assert stored(client, COPY)[:number] == stored(client, SOURCE)
    assert talk.snapshot("fork").answers[0].text == "x" * number == talk.snapshot("source").answers[0].text
    assert client.exists(COPY.digest)
    large = ChatKeys("default", "large")
    fill(client, large, 12, size=200_000)
    talk.fork("large", to="small")
    assert stored(client, ChatKeys("default", "small"))[:12] == stored(client, large)


@pytest.mark.parametrize("seed", range(5))
def test_every_kind_of_event_is_forked(talk: BlockingSpool, client: Redis, seed: int) -> None:
    """At every place, and each generation has one ending then."""
    entries = random_log(seed, 3)
    fill(client, SOURCE, 0)
    for entry in entries:
        client.xadd(SOURCE.log, {"t": entry.at, "e": entry.raw}, id=f"{entry.seq}-0")
    client.set(SOURCE.seq, len(entries), ex=600)
    client.expire(SOURCE.log, 600)
    for at in range(1, len(entries) + 1, 7):
        talk.fork("source", at, to=f"fork-{at}")
        copied = [entry.event for entry in talk.read(f"fork-{at}")]
        assert copied[:at] == [entry.event for entry in entries[:at]]
        assert {one.state for one in fold(copied)} <= {"completed", "stopped", "failed"}
        endings = [one.generation_id for one in copied if one.type in {"generation.stopped", "generation.completed"}]
        assert len(endings) == len(set(endings))


def steps(
    client: Redis, spool: Spool, at_step: int, act: Callable[[], object] = lambda: None, *, times: int = 1
) -> bool:
    """Fork, and do something before a step; return whether there was such a step. Raises what the fork does.

    `times`: how often each call is sent, as if the replies to the first ones had been lost.
    """
    operation = fork(SOURCE, COPY, spool.settings, at=None, ttl=600, owner="bob")
    store = Store(client)

    def perform(effect: Effect) -> Any:
        if isinstance(effect, SendAll):
            return store.send_all(effect.transactions, at_once=False)
        return store.send(effect)  # type: ignore[arg-type] # it waits for nothing, and tells nobody

    effect, number, acted = next(operation), 0, False
    try:
        while True:
            if number == at_step:
                acted = True
                if act() == "die":
                    operation.close()
                    return True
            try:
                result = [perform(effect) for _ in range(times)][-1]
            except ChunkspoolError as error:
                effect = operation.throw(error)
            else:
                effect = operation.send(result)
            number += 1
    except StopIteration:
        return acted


@pytest.fixture
def source(spool: Spool, client: Redis) -> Spool:
    """Provide a spool with a chat of a few steps, of which the last generation has not ended."""
    fill(client, SOURCE, 2 * STEP_EVENTS)
    return spool


def test_of_a_fork_that_was_killed_nothing_stays(source: Spool, client: Redis) -> None:
    """At whichever step: the copy goes by itself, no list names it, and the next try finds its place free."""
    was_made = False
    for at_step in range(100):
        if not steps(client, source, at_step, lambda: "die"):
            break
        is_made = bool(client.exists(COPY.log))
        assert is_made or not was_made
        was_made = is_made
        if not is_made:
            left = client.keys("cs:{default/fork}:*")
            assert all(b":copy:" in key and 0 < client.pttl(key) <= COPY_MS for key in left)
            for key in left:
                client.delete(key)  # as its TTL does
            assert source.chats().chats == source.chats("bob").chats == ()
        assert source.fork("source", to="again", owner="bob").seq == 2 * STEP_EVENTS + 1
        source.erase("again")
        source.erase("fork")
        assert counted(client) == {}
    assert was_made
    assert at_step > 8


def test_an_erase_of_the_source_comes_before_the_fork_or_after_it(source: Spool, client: Redis) -> None:
    """Whenever it comes: either there is no fork, and nothing of the chat; or there is a whole one.

    An erase that has ended before the fork is made never goes unnoticed.
    """
    late: list[bool] = []
    refused = 0
    for at_step in range(100):
        late.clear()

        def erase() -> None:
            late.append(bool(client.exists(COPY.log)))
            source.erase("source")

        try:
            is_over = not steps(client, source, at_step, erase)
        except (ChatNotFound, CursorExpired):
            is_over = False
            refused += 1
            assert list_keys(client) == []
        else:
            assert late in ([True], [])
            assert len(stored(client, COPY)) == 2 * STEP_EVENTS + 1
            assert "fork" in counted(client)
        client.flushdb()
        fill(client, SOURCE, 2 * STEP_EVENTS)
        if is_over:
            break
    assert refused > 8


def test_a_source_that_begins_anew_is_not_mixed_with_the_old_one(source: Spool, client: Redis) -> None:
    """Another log under the same id, in the middle of the copying."""

    def begin_anew() -> None:
        source.erase("source")
        fill(client, SOURCE, 3 * STEP_EVENTS)
        client.hset(SOURCE.head, "log", "0123456789ab")

    with pytest.raises(CursorExpired):
        steps(client, source, 6, begin_anew)
    assert [key for key in list_keys(client) if "fork" in key] == []


def test_a_copy_that_was_evicted_is_not_made_a_chat(source: Spool, client: Redis) -> None:
    """Whatever step it is lost at, there is a whole fork or none, and nothing of it."""
    refused = 0
    for at_step in range(4, 100):

        def evict() -> None:
            for key in client.keys("cs:{default/fork}:copy:*"):
                client.delete(key)

        try:
            is_over = not steps(client, source, at_step, evict)
        except StoreUnavailable:
            refused += 1
            assert [key for key in list_keys(client) if "fork" in key] == []
            assert source.chats().chats == ()
        else:
            assert len(stored(client, COPY)) == 2 * STEP_EVENTS + 1
            source.erase("fork")
            if is_over:
                break
    assert refused > 3


def test_of_many_forks_into_one_chat_one_is_made(source: Spool, client: Redis) -> None:
    """It is whole, and counts for its owner alone; the others are told, and leave nothing."""
    owners = [f"owner-{n}" for n in range(8)]

    def try_it(owner: str) -> str | None:
        try:
            source.fork("source", to="fork", owner=owner)
        except ChatExists:
            return None
        return owner

    for _ in range(5):
        with ThreadPoolExecutor(len(owners)) as pool:
            winners = [one for one in pool.map(try_it, owners) if one]
        assert len(winners) == 1
        assert len(stored(client, COPY)) == 2 * STEP_EVENTS + 1
        assert client.keys("cs:{default/fork}:copy:*") == []
        assert counted(client) == {"fork": client.memory_usage(COPY.log)}
        for owner in owners:
            mine = ["fork"] if owner in winners else []
            assert [one.chat_id for one in source.chats(owner).chats] == mine
            assert list(counted(client, f"default/{hash_of('default', owner)}")) == mine
        source.erase("fork")
        assert counted(client) == {}


@pytest.mark.parametrize("limit", ["bytes", "owner_bytes", "chat_bytes"])
def test_limits_of_bytes_hold(source: Spool, client: Redis, limit: str) -> None:
    """What would be more than may be is not made; what has gone makes room."""
    size = client.memory_usage(SOURCE.log)
    source.set_policy(**{limit: size // 2 if limit == "chat_bytes" else 5 * size // 2})
    if limit != "chat_bytes":
        source.fork("source", to="one", owner="ada")
        source.fork("source", to="two", owner="ada")
    with pytest.raises(LimitExceeded) as met:
        source.fork("source", to="three", owner="ada")
    assert met.value.limit == limit
    assert client.keys("*three*") == []
    assert "three" not in counted(client)
    assert "three" not in [one.chat_id for one in source.chats().chats]
    if limit == "chat_bytes":
        assert source.fork("source", STEP_EVENTS // 2, to="short").seq == STEP_EVENTS // 2 + 1
        return
    client.delete(ChatKeys("default", "one").log)  # evicted, or it has expired early
    source.fork("source", to="three", owner="ada")
    assert set(counted(client)) == {"two", "three"}


def test_a_call_whose_reply_was_lost_is_repeated(source: Spool, client: Redis) -> None:
    """Each of them: the fork is the same, is counted once and is in the lists."""
    steps(client, source, 0, times=3)
    assert len(stored(client, COPY)) == 2 * STEP_EVENTS + 1
    assert counted(client) == {"fork": client.memory_usage(COPY.log)}
    assert [one.chat_id for one in source.chats("bob").chats] == ["fork"]
    assert client.keys("*copy*") == []


def test_a_full_redis_makes_no_fork(source: Spool, client: Redis) -> None:
    """Nothing of it is left, and what was there is untouched."""
    before = read_contents(client)
    client.config_set("maxmemory", 1)
    try:
        with pytest.raises(StoreFull):
            source.fork("source", to="fork", owner="ada")
    finally:
        client.config_set("maxmemory", 0)
    assert read_contents(client) == before


def test_a_try_that_failed_takes_no_room(source: Spool, client: Redis) -> None:
    """What is noted of a fork whose maker was killed just before it was there does not keep the next try out."""
    source.set_policy(bytes=3 * client.memory_usage(SOURCE.log) // 2)
    at_step = next(n for n in range(100) if steps(client, source, n, lambda: "die") and "fork" in counted(client))
    assert at_step > 5
    assert not client.exists(COPY.log)
    assert source.fork("source", to="fork").chat_id == "fork"


def test_an_ending_is_the_last_of_its_generation(source: Spool, client: Redis) -> None:
    """Also where somebody has written another event behind it: the fork has one ending of it."""
    last = source.status("source").last
    for seq, raw in enumerate(
        (b'{"type":"generation.completed","generation":"g"}', b'{"type":"text.delta","generation":"g","text":"x"}'),
        last + 1,
    ):
        client.xadd(SOURCE.log, {"t": 1, "e": raw}, id=f"{seq}-0")
        client.set(SOURCE.seq, seq, keepttl=True)
    assert source.fork("source", to="fork").seq == last + 2


def test_a_fork_is_of_its_tenant(source: Spool, client: Redis) -> None:
    """Another tenant's chat of that name is nobody's source."""
    with pytest.raises(ChatNotFound):
        source.for_tenant("other").fork("source", to="fork")
    assert client.keys("cs:{other*") == []
