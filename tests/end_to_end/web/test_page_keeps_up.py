"""The chat page when things change behind its back: hidden tabs, silent networks, erased chats, hostile texts."""

from __future__ import annotations

import re
import threading
import time

import pytest
from playwright.sync_api import Browser, expect
from redis import Redis
from support.chats.logs import CHAT, KEYS
from support.chats.spools import async_spool_for, spool_for
from support.waiting import eventually
from support.web.chat_page import BrowserTab, PageEnvironment
from support.web.web_server import BlackHole, serve_app

from chunkspool.web import GrantedUntil, create_app

# One server is enough here: the tests of the routes run on both.
pytestmark = pytest.mark.parametrize("redis_server", ["redis-server"], indirect=True)


def count_streams(tab: BrowserTab) -> int:
    """Return how many event streams the page has asked for."""
    tab.page.evaluate("1")  # Playwright tells of requests only during a call
    return sum("/events?" in request.url for request in tab.requests)


def answer(env: PageEnvironment, text: str) -> None:
    """Ask and answer in the chat, somewhere else."""
    made = env.spool.enqueue(CHAT, "x")
    with env.spool.produce(CHAT, made.generation_id) as out:
        out.text(text)


def test_hidden_tabs_hold_no_connection(env: PageEnvironment) -> None:
    """More tabs than a browser makes connections do not block each other; looked at again, one shows what it missed."""
    made = env.spool.enqueue(CHAT, "Count.")
    with env.spool.produce(CHAT, made.generation_id) as out:
        out.text("one ")
        first = env.open_device()
        tabs = [first]
        first.expect_answer("one")
        for _ in range(6):
            tabs[-1].set_hidden(True)
            tabs[-1].expect_connection("paused")
            tabs.append(env.open_tab(first.context))
            tabs[-1].expect_answer("one")
        out.text("two")
        tabs[-1].expect_answer("one two")
        first.expect_answer("one")
        first.set_hidden(False)
        first.expect_answer("one two")


def test_twenty_visible_tabs_block_nothing(env: PageEnvironment) -> None:
    """On HTTP/1.1, where a browser makes six connections: each opens and follows, and Stop works at once in each."""
    made = env.spool.enqueue(CHAT, "Count.")
    with env.spool.produce(CHAT, made.generation_id) as out:
        out.text("one ")
        tabs = [env.open_device()]
        for _ in range(19):
            tabs.append(env.open_tab(tabs[0].context))
        out.text("two")
        for tab in tabs:
            expect(tab.page.locator(".answer .text")).to_have_text("one two", timeout=30_000)
        tabs[-1].page.get_by_role("button", name="Stop").click()
        eventually(lambda: env.spool.status(CHAT).generations[0].stop_asked)
    for tab in (tabs[0], tabs[-1]):
        expect(tab.page.locator(".facts")).to_contain_text("stopped", timeout=30_000)
    assert all(tab.errors == [] for tab in tabs)


def test_stop_works_though_every_connection_is_taken(env: PageEnvironment) -> None:
    """A page that came by plain HTTP has no locks to count its streams by: when Stop has to wait, they make room."""
    made = env.spool.enqueue(CHAT, "Count.")
    with env.spool.produce(CHAT, made.generation_id) as out:
        out.text("one")
        context = env.browser.new_context()
        env.contexts.append(context)
        context.add_init_script("Object.defineProperty(Navigator.prototype, 'locks', { get: () => undefined })")
        tabs = [env.open_tab(context)]
        for _ in range(7):
            tabs[-1].expect_answer("one")
            tabs[-1].set_hidden(True)
            tabs.append(env.open_tab(context))
        tabs[-1].expect_answer("one")
        for tab in tabs:
            tab.set_hidden(False)
        tabs[-1].page.get_by_role("button", name="Stop").click()
        eventually(lambda: env.spool.status(CHAT).generations[0].stop_asked)


def test_live_means_that_something_was_heard(env: PageEnvironment) -> None:
    """When the network swallows everything, the page says so, and tries again although nothing is ever refused."""
    made = env.spool.enqueue(CHAT, "x")
    with env.spool.produce(CHAT, made.generation_id) as out:
        out.text("one ")
        tab = env.open_device(clock=True)
        tab.expect_answer("one")
        tab.expect_connection("live")
        env.hole.open.set()
        tab.page.clock.fast_forward(10_000)
        tab.expect_connection("disconnected")
        tab.page.clock.fast_forward(1_000)
        eventually(lambda: count_streams(tab) == 2)
        tab.page.clock.fast_forward(20_000)
        tab.page.clock.fast_forward(10_000)
        eventually(lambda: count_streams(tab) == 3)
        tab.expect_connection("disconnected")
        out.text("two")
        env.hole.open.clear()
        tab.expect_answer("one two")
        tab.expect_connection("live")


@pytest.mark.parametrize("event", ["online", "visibilitychange"])
def test_it_looks_again_at_once_when_somebody_looks(env: PageEnvironment, event: str) -> None:
    """When the network returns, and when the tab becomes visible, it does not wait for its next try."""
    answer(env, "one")
    tab = env.open_device()
    tab.expect_answer("one")
    eventually(lambda: count_streams(tab) == 1)
    tab.expect_connection("live")
    if event == "online":
        tab.page.evaluate("dispatchEvent(new Event('online'))")
    else:
        tab.set_hidden(True)
        tab.set_hidden(False)
    eventually(lambda: count_streams(tab) == 2)
    tab.expect_connection("live")


@pytest.mark.parametrize("how", ["erased", "lost with Redis's memory"])
def test_what_is_gone_is_not_shown(env: PageEnvironment, client: Redis, how: str) -> None:
    """The text disappears, nothing tells of an error, what was being typed stays, and the next question works."""
    tab = env.open_device()
    tab.ask("A secret?")
    with env.spool.produce(CHAT, env.wait_for_question()) as out:
        out.text("Yes.")
    tab.expect_answer("Yes.")
    tab.page.get_by_label("Your question").fill("Half a ques")
    if how == "erased":
        env.spool.erase(CHAT)
    else:
        client.flushall()
    expect(tab.page.locator(".turn")).to_have_count(0, timeout=30_000)
    expect(tab.page.get_by_role("heading", name="An answer that survives")).to_be_visible()
    tab.expect_connection("live")
    expect(tab.page.get_by_label("Your question")).to_have_value("Half a ques")
    tab.ask("And now?")
    with env.spool.produce(CHAT, env.wait_for_question()) as out:
        out.text("No.")
    tab.expect_answer("No.")
    expect(tab.page.locator(".turn")).to_have_count(1)


def test_another_log_under_the_same_name_is_shown_from_its_beginning(env: PageEnvironment) -> None:
    """A hidden tab misses an erase and longer answers: looked at again, it shows them and nothing of the old ones."""
    answer(env, "old")
    tab = env.open_device()
    tab.expect_answer("old")
    tab.set_hidden(True)
    tab.expect_connection("paused")
    env.spool.erase(CHAT)
    for text in ("new", "newer", "newest"):
        answer(env, text)
    tab.set_hidden(False)
    expect(tab.page.locator(".answer .text")).to_have_text(["new", "newer", "newest"])


def test_a_refusal_is_told_in_words_for_people(env: PageEnvironment) -> None:
    """A tenant that may ask nothing more: no id and no name of a limit, and the question can be sent again."""
    tab = env.open_device()
    tab.expect_connection("live")
    env.spool.set_policy(per_minute=0)
    tab.ask("Me, too?")
    expect(tab.page.locator(".failed")).to_have_text("Too many requests. Try again in a moment.")
    env.spool.set_policy(per_minute=None)
    tab.page.get_by_role("button", name="Send again").click()
    with env.spool.produce(CHAT, env.wait_for_question()) as out:
        out.text("Yes.")
    tab.expect_answer("Yes.")
    expect(tab.page.locator(".question")).to_have_text("Me, too?")


def test_events_that_have_expired_begin_anew_from_the_snapshot(env: PageEnvironment, client: Redis) -> None:
    """A hidden tab misses events that are trimmed meanwhile: looked at again, it shows what is kept."""
    answer(env, "one")
    tab = env.open_device()
    tab.expect_answer("one")
    tab.set_hidden(True)
    tab.expect_connection("paused")
    answer(env, "two")
    answer(env, "three")
    client.xtrim(KEYS.log, minid=f"{env.spool.status(CHAT).last - 3}-0", approximate=False)
    tab.set_hidden(False)
    expect(tab.page.locator(".answer .text")).to_have_text(["three"])
    tab.expect_connection("live")


def test_an_access_that_ends_is_told_in_words_for_people(redis_url: str, browser: Browser) -> None:
    """The text stays; the status says what to do."""
    app = create_app(async_spool_for(redis_url), lambda *_: GrantedUntil(time.time() + 5), page=True, closes_spool=True)
    with serve_app(app) as site, spool_for(redis_url) as spool:
        env = PageEnvironment(site, spool, browser, threading.Event(), BlackHole(app))
        answer(env, "one")
        tab = env.open_device()
        tab.expect_answer("one")
        told = "Your access has ended. Open this chat again from the page that led you here."
        expect(tab.page.locator("#connection")).to_have_text(told, timeout=30_000)
        tab.expect_connection("ended")
        tab.expect_answer("one")
        env.contexts[0].close()


MARKDOWN = """\
# Title

Two lines
of *one* **paragraph** with `code`, ~~none~~ and [a link](https://example.org/x).

1. first
   - nested
2. second

```python
print("<b>")
```

| a | b |
|---|--:|
| 1 | 2 |

> quoted

![a picture](https://example.org/p.png) [bad](javascript:alert(1)) [here](/v1/chats/x)
<img src=x onerror="document.title = 'owned'"><script>document.title = "owned"</script>
"""


def test_answers_are_shown_as_markdown_and_nothing_in_them_runs(env: PageEnvironment) -> None:
    """Word by word it becomes the same as at once; links leave the page without telling where from; HTML stays text."""
    tab = env.open_device()
    made = env.spool.enqueue(CHAT, "x")
    with env.spool.produce(CHAT, made.generation_id) as out:
        for piece in re.findall(r".{1,7}", MARKDOWN, re.DOTALL):
            out.text(piece)
        expect(tab.page.locator(".answer .text")).to_contain_text('title = "owned"</script>')
    text = tab.page.locator(".answer .text")
    grown = text.inner_html()
    tab.page.reload()
    expect(text).to_contain_text('title = "owned"</script>')
    assert text.inner_html() == grown
    for selector in ("h3", "p > em", "p > strong", "p > s", "ol > li > ul > li", "pre > code", "td", "blockquote > p"):
        expect(text.locator(selector).first).to_be_visible()
    expect(text.locator("pre")).to_have_text('print("<b>")')
    assert [link.get_attribute("href") for link in text.locator("a").all()] == [
        "https://example.org/x",
        "https://example.org/p.png",
    ]
    assert text.locator("a[rel~=noopener][rel~=noreferrer][target=_blank]").count() == 2
    assert text.locator("img, script").count() == 0
    assert tab.page.title() != "owned"
    assert tab.errors == []


@pytest.mark.parametrize(
    "text", ["[" * 300_000, "*a **b " * 40_000, ">" * 200_000, "- " * 100_000, "```\n" + "x" * 300_000]
)
def test_a_hostile_answer_does_not_hang_the_page(env: PageEnvironment, text: str) -> None:
    """Texts for which Markdown parsers take quadratic time are shown, and the page still answers."""
    tab = env.open_device()
    made = env.spool.enqueue(CHAT, "x")
    with env.spool.produce(CHAT, made.generation_id) as out:
        for start in range(0, len(text), 50_000):
            out.text(text[start : start + 50_000])
    expect(tab.page.locator(".answer")).to_have_attribute("aria-busy", "false", timeout=30_000)
    tab.ask("Still there?")
    env.wait_for_question()
    assert tab.errors == []
