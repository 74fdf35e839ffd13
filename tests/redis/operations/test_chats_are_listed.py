"""A tenant's chats, and those of each owner, are listed: the one that was asked last first, page by page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis
from support.chats.logs import read_log
from support.chats.spools import async_spool_for, spool_for
from support.readers.running_loop import running_loop
from support.servers.contents import find_keys_containing
from support.waiting import eventually

from chunkspool import Spool
from chunkspool.errors import ChatBusy, ChatNotFound, CorruptLog, InvalidId, InvalidInput
from chunkspool.operations.chats import MAX_CHATS, MAX_TITLE
from chunkspool.results import ChatPage
from chunkspool.store.chats import Listed, list_key, unlist
from chunkspool.store.client import Store
from chunkspool.store.index import YOUNG_MS, as_ms
from chunkspool.store.keys import SIZES_DUE, ChatKeys
from chunkspool.store.schedule import hash_of

List = Callable[..., ChatPage]


@pytest.fixture(params=["sync", "asyncio"])
def chats(request: pytest.FixtureRequest, redis_url: str, spool: Spool) -> Iterator[List]:
    """Give `chats` of both spools."""
    if request.param == "sync":
        yield spool.chats
        return
    with running_loop() as run:

        async def make() -> Any:
            return async_spool_for(redis_url)

        opened = run(make())
        yield lambda *args, **options: run(opened.chats(*args, **options))
        run(opened.aclose())


def names(page: ChatPage) -> list[str]:
    """Return the ids of a page's chats."""
    return [one.chat_id for one in page.chats]


def moment(client: Redis, at: int) -> int:
    """Return a ms of this test's time, which begins half a minute before its first question."""
    client.set("test:begin", as_ms(client.time()) - 30_000, nx=True, ex=600)
    return int(client.get("test:begin")) + at


def ask(spool: Spool, client: Redis, chat_id: str, at: int | None = None, **options: Any) -> str:
    """Ask in a chat; let the lists say that it was at a certain moment."""
    made = spool.enqueue(chat_id, "hello", on_active="allow", **options)
    for key in (list_key("default", None), list_key("default", options.get("owner"))):
        if at is not None:
            client.zadd(key, {chat_id: moment(client, at)})
    return made.generation_id


def test_the_one_asked_last_comes_first(spool: Spool, client: Redis, chats: List) -> None:
    """And comes first again when it is asked something again."""
    for at, chat in enumerate(("a", "b", "c"), 1):
        ask(spool, client, chat, at)
    assert names(chats()) == ["c", "b", "a"]
    ask(spool, client, "a")
    assert names(chats()) == ["a", "c", "b"]


def test_a_chat_says_how_it_stands(spool: Spool, chats: List) -> None:
    """Its title, its newest generation, what is active, how far it goes, and since when it is there."""
    made = spool.enqueue("chat", "hello", owner="ada")
    spool.set_title("chat", "  Zürich in May  ")
    (waiting,) = chats().chats
    assert (waiting.title, waiting.active, waiting.last) == ("Zürich in May", (made.generation_id,), 1)
    assert waiting.newest is not None
    assert (waiting.newest.generation_id, waiting.newest.state) == (made.generation_id, "queued")
    with spool.produce("chat", made.generation_id) as out:
        out.text("hi")
        running = chats().chats[0].newest
        assert running is not None
        assert running.state == "running"
    (ended,) = chats().chats
    assert ended.newest is not None
    assert (ended.newest.state, ended.active) == ("completed", ())
    status = spool.status("chat")
    assert (ended.last, ended.newest) == (status.last, status.generations[0])
    assert abs(ended.created - read_first_ms(spool)) <= 1
    assert abs(ended.asked - ended.created) < 1000


def read_first_ms(spool: Spool) -> int:
    """Return when the chat's first event was written."""
    return spool.read("chat", limit=1)[0].at


def test_an_owner_has_a_list_of_their_own(spool: Spool, client: Redis, chats: List) -> None:
    """A chat is in the list of each who has asked in it, and of nobody else; and in no other tenant's."""
    ask(spool, client, "hers", 1, owner="ada")
    ask(spool, client, "his", 2, owner="bob")
    ask(spool, client, "both", 3, owner="ada")
    ask(spool, client, "both", 4, owner="bob")
    ask(spool, client, "nobodys", 5)
    assert names(chats("ada")) == ["both", "hers"]
    assert names(chats("bob")) == ["both", "his"]
    assert names(chats("eve")) == []
    assert names(chats()) == ["nobodys", "both", "his", "hers"]
    assert names(spool.for_tenant("other").chats()) == []


@pytest.mark.parametrize("ties", [False, True])
def test_pages_lead_through_the_list(spool: Spool, client: Redis, chats: List, ties: bool) -> None:
    """Each chat once, whatever the pages' size, also where many were asked in one ms."""
    for at in range(12):
        ask(spool, client, f"c{at:02}", 1000 + (at // 5 if ties else at))
    everything = [f"c{at:02}" for at in reversed(range(12))]
    assert names(chats()) == everything
    for limit in range(1, 13):
        seen: list[str] = []
        before = None
        while True:
            page = chats(before=before, limit=limit)
            assert len(page.chats) <= limit
            seen += names(page)
            before = page.before
            if before is None:
                break
            assert len(page.chats) == limit
        assert seen == everything


def test_what_is_asked_meanwhile_moves_no_page(spool: Spool, client: Redis, chats: List) -> None:
    """Whoever leafs through the list misses nothing that nobody has asked in."""
    for at in range(6):
        ask(spool, client, f"c{at}", 1000 + at)
    page = chats(limit=2)
    ask(spool, client, "new")
    ask(spool, client, "c1")
    assert names(chats(before=page.before)) == ["c3", "c2", "c0"]
    assert names(chats())[:2] == ["c1", "new"]


def test_an_erased_chat_is_in_no_list(spool: Spool, client: Redis, chats: List) -> None:
    """Neither the tenant's nor that of anybody who has asked in it; nothing names it any more, nor its title."""
    made = ask(spool, client, "gone", owner="ada", ttl=1)
    with spool.produce("gone", made) as out:
        out.text("hi")
    eventually(lambda: not client.keys("cs:{default/gone}:gen:*"))  # nobody's generation tells of her any more
    ask(spool, client, "gone", owner="bob")
    ask(spool, client, "kept", owner="ada")
    spool.set_title("gone", "Unmistakable")
    spool.erase("gone")
    assert names(chats()) == names(chats("ada")) == ["kept"]
    assert names(chats("bob")) == []
    assert [key for key in find_keys_containing(client, "gone") if ":chats:" in key or "title" in key] == []
    assert find_keys_containing(client, "Unmistakable") == []


def test_an_expired_chat_is_not_listed(spool: Spool, client: Redis, chats: List) -> None:
    """And it is taken out of the list by whoever comes by, but not while it may just be made."""
    ask(spool, client, "kept", 1)
    for chat in ("old", "young"):
        ask(spool, client, chat, ttl=1)
    client.zadd(
        list_key("default", None), {"old": moment(client, 2) - 2 * YOUNG_MS, "kept": moment(client, 1) - 3 * YOUNG_MS}
    )
    client.hincrby(ChatKeys("default", "kept").head, "born", -3 * YOUNG_MS)
    eventually(lambda: not client.exists(ChatKeys("default", "old").log, ChatKeys("default", "young").log))
    assert names(chats(limit=1)) == ["kept"]
    assert client.zrange(list_key("default", None), 0, -1) == [b"kept", b"young"]
    client.zincrby(list_key("default", None), -YOUNG_MS, "young")
    assert names(chats()) == ["kept"]
    assert client.zrange(list_key("default", None), 0, -1) == [b"kept"]


def test_a_title_goes_with_the_log(spool: Spool, client: Redis, chats: List) -> None:
    """When the log has expired, nothing of the title is left; the next chat of this id has none."""
    made = ask(spool, client, "chat", ttl=1, owner="ada")
    spool.set_title("chat", "Unmistakable")
    with spool.produce("chat", made) as out:
        out.text("hi")
    keys = ChatKeys("default", "chat")
    # In one step: time passes between two.
    titles, logs = client.pipeline(transaction=True).pttl(keys.title).pttl(keys.log).execute()
    assert 0 < titles <= logs <= 1000
    eventually(lambda: not client.exists(keys.log))
    eventually(lambda: not find_keys_containing(client, "Unmistakable"), 1)
    assert client.exists(keys.head)
    ask(spool, client, "chat", owner="bob")
    assert [one.title for one in chats("bob").chats] == [None]


def test_a_title_lives_on_with_its_chat(spool: Spool, client: Redis) -> None:
    """Whatever keeps the log for longer keeps the title, too."""
    ask(spool, client, "chat", ttl=60)
    spool.set_title("chat", "Title")
    ask(spool, client, "chat", ttl=600)
    keys = ChatKeys("default", "chat")
    assert client.pttl(keys.title) == pytest.approx(client.pttl(keys.log), abs=1000)
    assert client.ttl(keys.title) > 500


def test_a_chat_that_begins_anew_is_another_one(spool: Spool, client: Redis, chats: List) -> None:
    """Whoever has asked in the old one does not see the new one in their list."""
    ask(spool, client, "chat", ttl=1, owner="ada")
    client.zincrby(list_key("default", "ada"), -2 * YOUNG_MS, "chat")
    eventually(lambda: not client.exists(ChatKeys("default", "chat").log))
    ask(spool, client, "chat", owner="bob")
    assert names(chats("bob")) == ["chat"]
    assert names(chats("ada")) == []
    assert client.zscore(list_key("default", "ada"), "chat") is None


def test_a_sweep_takes_out_what_has_expired(spool: Spool, client: Redis) -> None:
    """Nobody has to leaf through the list for it; what was asked again stays, and so do other owners' chats."""
    for chat in ("old", "anew", "shared"):
        for owner in ("bob", "ada"):
            made = ask(spool, client, chat, ttl=600, owner=owner)
            with spool.produce(chat, made) as out:
                out.text("hi")
    eventually(lambda: client.zcard("cs:{index}:sizes_until:default") == 3)
    lists = [list_key("default", owner) for owner in (None, "ada")]
    for key in lists:
        client.zincrby(key, 60_000, "anew")
    for scope in ("default", f"default/{hash_of('default', 'ada')}"):
        client.zadd(f"cs:{{index}}:sizes_until:{scope}", {"old": 1, "anew": 1})
        client.zadd(SIZES_DUE, {scope: 1})
    spool.sweep(queue_is_empty=False)
    assert [client.zrange(key, 0, -1) for key in lists] == [[b"shared", b"anew"]] * 2
    assert client.zscore(list_key("default", "bob"), "shared") is not None


def test_what_is_asked_again_stays_listed(spool: Spool, client: Redis, chats: List) -> None:
    """Somebody has seen that it is gone, and somebody else asks in it: it is not taken out."""
    ask(spool, client, "chat", 1)
    ask(spool, client, "chat", 2)
    key = list_key("default", None)
    assert Store(client).send(unlist(key, [Listed("chat", moment(client, 1))])) == 0
    assert names(chats()) == ["chat"]
    assert Store(client).send(unlist(key, [Listed("chat", moment(client, 2))])) == 1
    assert names(chats()) == []


def test_what_was_refused_is_not_listed(spool: Spool, chats: List, client: Redis) -> None:
    """Of a question that met a limit nothing is left."""
    spool.set_policy(owner_per_minute=1)
    ask(spool, client, "first", owner="ada")
    with pytest.raises(Exception, match="owner"):
        ask(spool, client, "second", owner="ada")
    spool.enqueue("third", "hello")
    before = chats()
    with pytest.raises(ChatBusy):
        spool.enqueue("first", "again", owner="bob")
    assert chats().chats == before.chats
    assert names(chats("bob")) == []


def test_a_repeated_request_asks_nothing_new(spool: Spool, chats: List) -> None:
    """The chat stays where it is in the list."""
    for chat in ("first", "second"):
        spool.enqueue(chat, "hello", request_id="once", owner="ada")
    spool.enqueue("first", "hello", request_id="once", owner="ada")
    assert names(chats()) == names(chats("ada")) == ["second", "first"]


def test_a_list_is_bounded_and_has_a_ttl(spool: Spool, client: Redis, chats: List) -> None:
    """Of a hundred thousand chats those go first that were asked longest ago; a list outlives its chats by a day."""
    key = list_key("default", None)
    client.zadd(key, {f"c{n}": n for n in range(100_050)})
    ask(spool, client, "new")
    assert client.zcard(key) == 100_000
    assert client.zscore(key, "c50") is None
    assert client.zscore(key, "c51") == 51
    assert 86_400 < client.ttl(key) <= 86_400 + 7 * 86_400
    client.delete(key)
    assert names(chats()) == []


def test_many_that_are_gone_hide_nothing(spool: Spool, client: Redis, chats: List) -> None:
    """They are taken out, and the page has what is there."""
    ask(spool, client, "kept", 1)
    client.zincrby(list_key("default", None), -3 * YOUNG_MS, "kept")
    client.hincrby(ChatKeys("default", "kept").head, "born", -3 * YOUNG_MS)
    client.zadd(list_key("default", None), {f"gone{n}": moment(client, 10 + n) - 2 * YOUNG_MS for n in range(700)})
    page, rounds = chats(limit=50), 1
    while not page.chats:
        page, rounds = chats(limit=50, before=page.before), rounds + 1
    assert (names(page), rounds) == (["kept"], 1)
    assert client.zcard(list_key("default", None)) == 1


@pytest.mark.parametrize("title", ["", "  ", "two\nlines", "bell\a", "half \ud83d", "x" * (MAX_TITLE + 1), 7, b"x"])
def test_a_title_is_one_line_of_text(spool: Spool, client: Redis, title: Any) -> None:
    """Anything else is an error that says so."""
    ask(spool, client, "chat")
    with pytest.raises(InvalidInput, match="one line"):
        spool.set_title("chat", title)


def test_a_title_can_be_changed_and_taken_away(spool: Spool, client: Redis, chats: List) -> None:
    """It stays through answers; a chat that is not there cannot have one, and gets no key by it."""
    made = ask(spool, client, "chat")
    family = "👨‍👩‍👧 plans"
    for title in ("First", family, "x" * MAX_TITLE, None, "Last"):
        spool.set_title("chat", title)
        assert chats().chats[0].title == title
    with spool.produce("chat", made):
        pass
    assert chats().chats[0].title == "Last"
    with pytest.raises(ChatNotFound):
        spool.set_title("other", "x")
    assert find_keys_containing(client, "other") == []


@pytest.mark.parametrize("limit", [0, -1, MAX_CHATS + 1, True, 2.0, "5"])
def test_a_page_has_a_bounded_size(chats: List, limit: Any) -> None:
    """From 1 to 500 chats."""
    with pytest.raises(InvalidInput, match="from 1 to 500"):
        chats(limit=limit)


@pytest.mark.parametrize("before", ["", "5", "x.chat", "5.", "-5.chat", "5.a b", "9" * 16 + ".chat", "٣.chat", 5])
def test_a_page_follows_a_page(chats: List, before: Any) -> None:
    """What is no page's `before` is an error that says so."""
    with pytest.raises(InvalidInput, match="of a page"):
        chats(before=before)


def test_an_owner_is_an_id(chats: List) -> None:
    """As where something is enqueued."""
    with pytest.raises(InvalidId):
        chats("not an id")


def test_it_works_where_lists_were_evicted(spool: Spool, client: Redis, chats: List) -> None:
    """Without its head, a chat says nothing of what is active; without its generations, nothing of the newest."""
    made = ask(spool, client, "chat")
    spool.set_title("chat", "Title")
    keys = ChatKeys("default", "chat")
    client.delete(keys.head)
    assert [(one.title, one.active) for one in chats().chats] == [("Title", ())]
    client.delete(keys.gens, keys.gen(made))
    assert [one.newest for one in chats().chats] == [None]
    assert read_log(client, keys)


def test_a_chat_that_cannot_be_read_hides_no_other(spool: Spool, client: Redis, chats: List) -> None:
    """One whose keys are another program's is named with its error; it stays in the list, and the others are there."""
    for at, chat in enumerate(("a", "broken", "c"), 1):
        ask(spool, client, chat, at)
    client.delete(ChatKeys("default", "broken").seq)
    client.hset(ChatKeys("default", "broken").seq, "foreign", 1)
    client.expire(ChatKeys("default", "broken").seq, 60)
    page = chats()
    assert names(page) == ["c", "a"]
    assert [(chat, type(error)) for chat, error in page.failed] == [("broken", CorruptLog)]
    assert [chat for chat, _ in chats().failed] == ["broken"]


def test_all_of_it_in_one_spool(redis_url: str) -> None:
    """A spool of another process sees the same."""
    with spool_for(redis_url) as one, spool_for(redis_url) as other:
        one.enqueue("chat", "x")
        one.set_title("chat", "T")
        assert [each.title for each in other.chats().chats] == ["T"]
