"""The chat page in a real browser: streaming, reloads, a second tab, stops, restarts, accessibility and security."""

from __future__ import annotations

import re

import pytest
from end_to_end.conftest import StartWorker
from end_to_end.workers.test_main_job import scripted
from playwright.sync_api import expect
from redis import Redis
from support.chats.logs import CHAT, KEYS, ending_of, read_log
from support.chats.spools import claim_and_die
from support.servers.slots import offer_no_slots
from support.waiting import eventually
from support.web.chat_page import PageEnvironment

from chunkspool.errors import Stopped
from chunkspool.producing.buffer import encode_delta
from chunkspool.store import scripts
from chunkspool.store.client import Store

# One server is enough here: the tests of the routes run on both.
pytestmark = pytest.mark.parametrize("redis_server", ["redis-server"], indirect=True)

FLOWER = "http://flower.example:5555"  # as the fixture says


def test_a_question_is_answered_word_by_word(env: PageEnvironment) -> None:
    """Enter sends; every word appears before the answer is complete; usage, seq and delay are shown."""
    tab = env.open_device()
    expect(tab.page.get_by_role("heading", name="An answer that survives")).to_be_visible()
    tab.ask("Why is the sky blue?")
    with env.spool.produce(CHAT, env.wait_for_question()) as out:
        assert out.request.messages[-1] == {"role": "user", "content": "Why is the sky blue?"}
        said = ""
        for word in ("Be", "cause", " of", " the", " air."):
            out.text(word)
            said += word
            tab.expect_answer(said)
        out.usage(5, 6)
    expect(tab.page.locator(".facts")).to_contain_text("6 tokens")
    expect(tab.page.locator(".question")).to_have_text("Why is the sky blue?")
    expect(tab.page.locator("#seq")).to_have_text(f"seq {len(env.spool.read(CHAT))}")
    expect(tab.page.locator("#lag")).to_have_text(re.compile(r"^\d+ ms$"))
    tab.ask("And at night?")
    with env.spool.produce(CHAT, env.wait_for_question()) as out:
        assert [message["role"] for message in out.request.messages] == ["user", "assistant", "user"]
        out.text("Dark.")
    tab.expect_answer("Dark.")


def test_a_question_that_waits_says_how_many_come_before_it(env: PageEnvironment, client: Redis) -> None:
    """Without a reload: as the others have their turns, fewer are before it, and then it is answered."""
    offer_no_slots(client)
    env.spool.offer_slots("worker@test", 1)
    others = [env.spool.enqueue(f"other-{n}", "x") for n in range(3)]
    tab = env.open_device()
    tab.ask("Why is the sky blue?")
    facts = tab.page.locator(".facts")
    expect(facts).to_contain_text("2 are before it")
    for n, words in ((0, "one is before it"), (1, "next in line")):
        with env.spool.produce(others[n].chat_id, others[n].generation_id) as out:
            out.text("x")
        expect(facts).to_contain_text(words, timeout=15_000)
    env.spool.stop(others[2].chat_id)
    with env.spool.produce(CHAT, env.wait_for_question()) as out:
        out.text("Because.")
    tab.expect_answer("Because.")
    expect(facts).not_to_contain_text("waiting")


@pytest.mark.parametrize(
    ("finish", "words"),
    [
        ("content_filter", "The provider's content filter withheld the answer."),
        ("refusal", "The model declined to answer."),
        ("stop", "The model's answer is empty."),
    ],
)
def test_an_empty_answer_says_so(env: PageEnvironment, finish: str, words: str) -> None:
    """Live and after a reload; an answer with a text, or with a tool call, is not empty."""
    tab = env.open_device()
    tab.ask("x")
    with env.spool.produce(CHAT, env.wait_for_question()) as out:
        out.reasoning("Hm.")
        out.finish(finish)
    expect(tab.page.locator(".failed")).to_have_text(words)
    tab.ask("y")
    with env.spool.produce(CHAT, env.wait_for_question()) as out:
        out.text("Half")
        out.finish(finish)
    tab.expect_answer("Half")
    tab.page.reload()
    expect(tab.page.locator(".answer")).to_have_count(2)
    expect(tab.page.locator(".failed")).to_have_text(words)


def test_a_reload_resumes_in_the_middle_of_a_word(env: PageEnvironment) -> None:
    """Question and text are there again, and the word continues."""
    tab = env.open_device()
    tab.ask("Say a word.")
    with env.spool.produce(CHAT, env.wait_for_question()) as out:
        out.text("light")
        tab.expect_answer("light")
        tab.page.reload()
        tab.expect_answer("light")
        expect(tab.page.locator(".question")).to_have_text("Say a word.")
        out.text("house")
        tab.expect_answer("lighthouse")


def test_a_second_tab_and_another_device_follow_live(env: PageEnvironment) -> None:
    """All show the same questions and the same text live."""
    tab = env.open_device()
    second_tab = env.open_tab(tab.context)
    tab.ask("Say a word.")
    with env.spool.produce(CHAT, env.wait_for_question()) as out:
        out.text("light")
        phone = env.open_device()
        for each in (tab, second_tab, phone):
            each.expect_answer("light")
        out.text("house")
        for each in (tab, second_tab, phone):
            each.expect_answer("lighthouse")
            expect(each.page.locator(".question")).to_have_text("Say a word.")
    second_tab.ask("Another one.")
    with env.spool.produce(CHAT, env.wait_for_question()) as out:
        out.text("tower")
        for each in (tab, second_tab, phone):
            each.expect_answer("tower")
            expect(each.page.locator(".question")).to_have_text(["Say a word.", "Another one."])


@pytest.mark.parametrize("by", ["button", "Escape"])
def test_stop_stops(env: PageEnvironment, client: Redis, by: str) -> None:
    """The button or the Escape key stops the worker; the page shows it, and the next question can be asked."""
    tab = env.open_device()
    tab.ask("Count.")
    generation_id = env.wait_for_question()
    with env.spool.produce(CHAT, generation_id) as out:
        out.text("1 2 3")
        tab.expect_answer("1 2 3")
        button = tab.page.get_by_role("button", name="Stop")
        if by == "button":
            button.click()
        else:
            tab.page.keyboard.press("Escape")
        with pytest.raises(Stopped):
            eventually(lambda: out.text("."), timeout=20)
    assert ending_of(read_log(client), generation_id)["by"] == "user"
    expect(tab.page.locator(".facts")).to_contain_text("stopped")
    expect(button).to_be_hidden()
    expect(tab.page.get_by_role("button", name="Send")).to_be_visible()


def test_a_lost_worker_shows_as_a_restart(env: PageEnvironment, client: Redis) -> None:
    """The text of the dead attempt disappears, a note says why, and the second attempt's answer streams."""
    tab = env.open_device()
    tab.ask("Say a word.")
    generation_id = env.wait_for_question()
    claim_and_die(client, generation_id, lease=60)
    void = encode_delta(generation_id, "text", "tow")
    Store(client).send(scripts.append(KEYS, generation_id, attempt=1, index=1, lease_ms=50, events=(void,)))
    tab.expect_answer("tow")
    with env.spool.produce(CHAT, generation_id, wait=10) as out:
        tab.expect_answer("")
        note = tab.page.locator(".note")
        expect(note).to_have_text("Another worker took over: attempt 2.")
        expect(tab.page.get_by_role("status")).to_have_text("Another worker took over: attempt 2.")
        out.text("light")
        tab.expect_answer("light")
        tab.page.reload()
        tab.expect_answer("light")
        expect(note).to_be_visible()


def test_a_killed_worker_shows_as_a_restart(env: PageEnvironment, start_worker: StartWorker) -> None:
    """With real workers: one is killed in mid-answer, the next restarts it, and the page shows the whole answer."""
    soon = {"CHUNKSPOOL_LEASE": "1", "CHUNKSPOOL_REDELIVERY": "2"}
    first = start_worker("threads", 1, **soon)
    env.spool.enqueue(CHAT, "Tell me a story.", params=scripted({"text": "word ", "repeat": 60}, pace=0.15))
    tab = env.open_device()
    expect(tab.page.locator(".answer .text").last).to_contain_text("word word")
    # Before the next one has started: that may take longer than the answer.
    first.kill()
    start_worker("threads", 1, **soon)
    note = tab.page.locator(".note")
    expect(note).to_have_text("Another worker took over: attempt 2.", timeout=60_000)
    expect(tab.page.locator(".answer .text").last).to_have_text(re.compile(r"^\s*(word\s*){60}$"), timeout=60_000)
    expect(tab.page.get_by_role("status")).to_have_text("The answer is complete.")
    assert env.spool.snapshot(CHAT).answers[0].text == "word " * 60
    assert tab.errors == []


def test_a_network_outage_loses_nothing(env: PageEnvironment) -> None:
    """The page shows the outage; after it, the text of the meantime is there exactly once."""
    tab = env.open_device()
    tab.ask("Count.")
    with env.spool.produce(CHAT, env.wait_for_question()) as out:
        out.text("1 ")
        tab.expect_answer("1 ")
        tab.context.set_offline(True)
        tab.expect_connection("disconnected")
        out.text("2 ")
        out.data("mark", 1)
        out.text("3 ")
        tab.context.set_offline(False)
        tab.expect_connection("live")
        tab.expect_answer("1 2 3 ")
        out.text("4")
        tab.expect_answer("1 2 3 4")


def test_a_question_that_cannot_be_sent_can_be_sent_again(env: PageEnvironment) -> None:
    """It stays on the page, with a button that sends it again; it is asked once."""
    tab = env.open_device()
    tab.expect_connection("live")
    tab.context.set_offline(True)
    tab.ask("Anybody there?")
    expect(tab.page.locator(".failed")).to_have_text("The server cannot be reached.")
    tab.context.set_offline(False)
    tab.page.get_by_role("button", name="Send again").click()
    with env.spool.produce(CHAT, env.wait_for_question()) as out:
        out.text("Yes.")
    tab.expect_answer("Yes.")
    expect(tab.page.locator(".turn")).to_have_count(1)


def test_the_page_works_with_a_screen_reader_and_without_a_mouse(env: PageEnvironment) -> None:
    """Names and roles for a screen reader, no announcement of every word, and the focus where a user expects it."""
    tab = env.open_device()
    question = tab.page.get_by_role("textbox", name="Your question")
    expect(question).to_be_focused()
    tab.page.keyboard.type("One")
    tab.page.keyboard.press("Shift+Enter")
    tab.page.keyboard.type("Two")
    expect(question).to_have_value("One\nTwo")
    tab.page.keyboard.press("Enter")
    answer = tab.page.get_by_role("article", name="Answer")
    with env.spool.produce(CHAT, env.wait_for_question()) as out:
        out.reasoning("hm")
        out.text("Three")
        tab.expect_answer("Three")
        expect(answer).to_have_attribute("aria-busy", "true")
        tab.page.keyboard.press("Tab")
        expect(tab.page.get_by_role("button", name="Stop")).to_be_focused()
    expect(answer).to_have_attribute("aria-busy", "false")
    expect(tab.page.get_by_role("status")).to_have_text("The answer is complete.")
    expect(question).to_be_focused()
    tab.page.get_by_text("Reasoning").click()
    expect(tab.page.locator(".reasoning")).to_have_text("hm")
    expect(tab.page.get_by_role("list", name="Conversation").get_by_role("listitem")).to_have_count(1)


def test_nothing_is_or_can_be_fetched_from_other_origins(env: PageEnvironment) -> None:
    """All requests go to the app; the policy forbids others, inline scripts and frames; HTML in texts stays text."""
    tab = env.open_device()
    tab.ask("<img src=x onerror=alert(1)>")
    with env.spool.produce(CHAT, env.wait_for_question()) as out:
        out.text("<script>alert(1)</script><b>bold</b>")
    tab.expect_answer("<script>alert(1)</script><b>bold</b>")
    expect(tab.page.locator(".question")).to_have_text("<img src=x onerror=alert(1)>")
    assert {request.url.split("/")[2] for request in tab.requests} == {env.site.url.split("/")[2]}
    # Not even before the chat exists: a browser would report a 404 as an error.
    assert tab.errors == []
    for path in ("/", "/page/page.js", "/page/page.css", "/page/vendor/markdown-it.mjs"):
        headers = env.site.client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert "require-trusted-types-for 'script'; trusted-types 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
    assert env.site.client.get("/page/..%2fpage.py").status_code == 404
    assert tab.page.get_by_role("link", name="Flower").get_attribute("href") == f"{FLOWER}/tasks"


@pytest.mark.parametrize(("scheme", "width"), [("light", 1100), ("dark", 390)])
def test_it_has_a_light_and_a_dark_theme_and_fits_a_phone(env: PageEnvironment, scheme: str, width: int) -> None:
    """The theme is the system's, and no width needs horizontal scrolling."""
    context = env.browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 760})  # type: ignore[arg-type]
    env.contexts.append(context)
    tab = env.open_tab(context)
    tab.ask("x" * 300)
    with env.spool.produce(CHAT, env.wait_for_question()) as out:
        out.text("y" * 300)
        tab.expect_answer("y" * 300)
        out.text(f"\n\n- > ```\n  > {'z ' * 300}\n  > ```\n\n|{'|'.join('abcdefghij' * 3)}|\n{'|---' * 30}|\n")
    expect(tab.page.locator("th")).to_have_count(30)
    channels = tab.page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (sum(channels[:3]) > 600) == (scheme == "light")
    assert tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


EVENT_SOURCE = """
address => {
  globalThis.seen = [];
  globalThis.source = new EventSource(address);
  for (const name of ["message", "generation.queued", "generation.started", "text.delta", "generation.completed"])
    source.addEventListener(name, (event) => seen.push(parseInt(event.lastEventId, 10)));
}
"""
CONNECTING, CLOSED = 0, 2


def test_the_browsers_own_event_source_reconnects_and_closes_at_the_end(env: PageEnvironment) -> None:
    """After a cut in mid-answer it resumes by Last-Event-ID; after the ending, a 204 closes it for good."""
    made = env.site.ask(CHAT)
    page = env.open_device().page
    with env.spool.produce(CHAT, made["generation"]) as out:
        out.text("one")
        page.evaluate(EVENT_SOURCE, f"/v1/chats/{CHAT}/events?after=0")
        eventually(lambda: page.evaluate("seen.length") == 4)
        env.shutting_down.set()
        eventually(lambda: page.evaluate("source.readyState") == CONNECTING)
        env.shutting_down.clear()
        out.text("two")
        eventually(lambda: page.evaluate("seen.length") == 5)
    eventually(lambda: page.evaluate("source.readyState") == CLOSED, 20)
    assert page.evaluate("seen") == [1, 2, 3, 4, 5, 6]
