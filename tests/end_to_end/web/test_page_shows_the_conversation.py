"""The chat page shows the conversation that the log holds, in a real browser: questions, versions of answers, edits."""

from __future__ import annotations

import base64
import struct
import threading
import zlib

import pytest
from playwright.sync_api import Browser, Locator, expect
from support.chats.logs import CHAT
from support.chats.spools import async_spool_for, spool_for
from support.web.chat_page import BrowserTab, PageEnvironment
from support.web.web_server import BlackHole, serve_app

from chunkspool.web import allow_all, create_app

# One server is enough here: the tests of the routes run on both.
pytestmark = pytest.mark.parametrize("redis_server", ["redis-server"], indirect=True)

REFUSAL = {
    "type": "urn:chunkspool:problem:refused",
    "title": "Refused",
    "status": 422,
    "detail": "no questions about clocks",
}


def reply(env: PageEnvironment, text: str) -> None:
    """Answer what was asked."""
    with env.spool.produce(CHAT, env.wait_for_question()) as out:
        out.text(text)


def converse(env: PageEnvironment, tab: BrowserTab, *turns: tuple[str, str]) -> None:
    """Ask and answer."""
    for question, answer in turns:
        tab.ask(question)
        reply(env, answer)
        tab.expect_answer(answer)


def expect_turns(tab: BrowserTab, *turns: tuple[str, str]) -> None:
    """Wait until the page shows exactly these questions and answers."""
    expect(tab.page.locator(".question")).to_have_text([question for question, _ in turns])
    expect(tab.page.locator(".answer .text")).to_have_text([answer for _, answer in turns])


def button(tab: BrowserTab, name: str) -> Locator:
    """Return the buttons with this name."""
    return tab.page.get_by_role("button", name=name, exact=True)


def expect_versions(tab: BrowserTab, place: str) -> None:
    """Wait until the page's only switch stands there."""
    expect(tab.page.locator(".versions:not([hidden]) > span")).to_have_text(place)


def test_a_second_device_shows_the_whole_conversation(env: PageEnvironment) -> None:
    """Questions and answers in order, though it has asked nothing; nothing is kept in the browser."""
    tab = env.open_device()
    turns = (("One?", "1"), ("Two?", "2"), ("Three?", "3"))
    converse(env, tab, *turns)
    second = env.open_device()
    expect_turns(second, *turns)
    tab.page.reload()
    expect_turns(tab, *turns)
    assert tab.page.evaluate("localStorage.length + sessionStorage.length") == 0
    assert tab.errors == second.errors == []


def test_another_version_of_an_answer(env: PageEnvironment) -> None:
    """It takes the place of the one before, on every device; a switch shows each; a new one is shown at once."""
    tab, second = env.open_device(), env.open_device()
    converse(env, tab, ("Why?", "Because."))
    button(tab, "Regenerate the answer").click()
    reply(env, "It is so.")
    for each in (tab, second):
        expect_turns(each, ("Why?", "It is so."))
        expect_versions(each, "2/2")
        expect(button(each, "Next version")).to_be_disabled()
    button(second, "Previous version").press("Enter")
    expect_turns(second, ("Why?", "Because."))
    expect_versions(second, "1/2")
    expect(second.page.locator(".foot")).to_contain_text("the conversation goes on with version 2")
    expect(second.page.get_by_role("status")).to_have_text("Version 1 of 2")
    # The keyboard stays at the switch.
    expect(button(second, "Next version")).to_be_focused()
    expect_turns(tab, ("Why?", "It is so."))
    button(tab, "Regenerate the answer").click()
    for each in (tab, second):
        expect_versions(each, "3/3")
    reply(env, "That is the law.")
    for each in (tab, second):
        expect_turns(each, ("Why?", "That is the law."))
    second.page.reload()
    expect_turns(second, ("Why?", "That is the law."))
    expect_versions(second, "3/3")
    assert tab.errors == second.errors == []


def test_a_question_is_edited_in_its_place(env: PageEnvironment) -> None:
    """The conversation goes on from there; what came after the one before is kept behind the switch."""
    tab, second = env.open_device(), env.open_device()
    converse(env, tab, ("Where?", "Here."), ("When?", "Now."), ("Who?", "We."))
    button(tab, "Edit the question").nth(1).click()
    field = tab.page.get_by_role("textbox", name="Edit the question")
    expect(field).to_be_focused()
    expect(field).to_have_value("When?")
    field.fill("What?")
    field.press("Enter")
    reply(env, "This.")
    for each in (tab, second):
        expect_turns(each, ("Where?", "Here."), ("What?", "This."))
        expect_versions(each, "2/2")
    expect(tab.page.get_by_label("Your question")).to_be_focused()
    converse(env, tab, ("How?", "So."))
    button(second, "Previous version").click()
    expect_turns(second, ("Where?", "Here."), ("When?", "Now."), ("Who?", "We."))
    button(second, "Next version").click()
    expect_turns(second, ("Where?", "Here."), ("What?", "This."), ("How?", "So."))
    # Whoever asks goes on with what counts, whatever they look at.
    button(second, "Previous version").click()
    second.ask("Why?")
    reply(env, "Because.")
    expect_turns(second, ("Where?", "Here."), ("What?", "This."), ("How?", "So."), ("Why?", "Because."))
    assert tab.errors == second.errors == []


def test_an_edit_is_never_lost(env: PageEnvironment) -> None:
    """Escape closes it and stops nothing; a new version from elsewhere, and an edit that cannot be sent, keep it."""
    tab, second = env.open_device(), env.open_device()
    converse(env, tab, ("Why?", "Because."))
    field = tab.page.get_by_role("textbox", name="Edit the question")
    button(tab, "Edit the question").press("Enter")
    field.fill("Why not?")
    button(second, "Regenerate the answer").click()
    generation_id = env.wait_for_question()
    expect(button(tab, "Stop")).to_be_visible()
    expect(field).to_have_value("Why not?")
    with env.spool.produce(CHAT, generation_id) as out:
        out.text("It is so.")
        field.press("Escape")
        expect(field).to_be_hidden()
        assert not env.spool.status(CHAT).generations[-1].stop_asked
    expect(tab.page.locator(".question")).to_have_text("Why?")
    expect(button(tab, "Edit the question")).to_be_focused()
    button(tab, "Edit the question").click()
    field.fill("Why so?")
    tab.context.set_offline(True)
    button(tab, "Send the edited question").click()
    expect(tab.page.locator(".editing .failed")).to_have_text("The server cannot be reached.")
    expect(field).to_have_value("Why so?")
    tab.context.set_offline(False)
    field.press("Enter")
    reply(env, "For a reason.")
    for each in (tab, second):
        expect_turns(each, ("Why so?", "For a reason."))
        expect_versions(each, "3/3")


def test_a_version_that_cannot_be_asked_for_says_why(env: PageEnvironment) -> None:
    """The answer stays, and the button can be pressed again: it is asked once."""
    tab = env.open_device()
    converse(env, tab, ("Why?", "Because."))
    tab.context.set_offline(True)
    again = button(tab, "Regenerate the answer")
    again.click()
    expect(tab.page.locator(".failed")).to_have_text("The server cannot be reached.")
    tab.context.set_offline(False)
    again.click()
    reply(env, "It is so.")
    expect_turns(tab, ("Why?", "It is so."))
    expect_versions(tab, "2/2")


def test_an_older_log_shows_its_answers(env: PageEnvironment, redis_url: str) -> None:
    """Without questions there is nothing to edit and nothing to ask again; what is asked then has all."""
    with spool_for(redis_url, keep_messages=False) as older:
        for text in ("1", "2"):
            made = older.enqueue(CHAT, "x")
            with older.produce(CHAT, made.generation_id) as out:
                out.text(text)
    tab = env.open_device()
    expect(tab.page.locator(".answer .text")).to_have_text(["1", "2"])
    expect(tab.page.locator(".question")).to_have_count(0)
    for name in ("Edit the question", "Regenerate the answer"):
        expect(button(tab, name)).to_have_count(0)
    converse(env, tab, ("Three?", "3"))
    expect(tab.page.locator(".answer .text")).to_have_text(["1", "2", "3"])
    for name in ("Edit the question", "Regenerate the answer"):
        expect(button(tab, name)).to_have_count(1)


def test_an_app_that_keeps_its_messages_itself(redis_url: str, browser: Browser) -> None:
    """The log has answers only: what was asked here is shown until the page is left, and there is nothing to edit."""
    app = create_app(async_spool_for(redis_url, keep_messages=False), allow_all, page=True, closes_spool=True)
    with serve_app(app) as site, spool_for(redis_url) as spool:
        env = PageEnvironment(site, spool, browser, threading.Event(), BlackHole(app))
        tab = env.open_device()
        converse(env, tab, ("Why?", "Because."))
        expect_turns(tab, ("Why?", "Because."))
        expect(button(tab, "Edit the question")).to_have_count(0)
        expect(button(tab, "Regenerate the answer")).to_have_count(0)
        tab.page.reload()
        tab.expect_answer("Because.")
        expect(tab.page.locator(".question")).to_have_count(0)
        # Nor does a title hold the question: the list has the chat, by its id.
        expect(tab.page.locator("#chat-list span")).to_have_text([CHAT])
        assert [chat.title for chat in spool.chats().chats] == [None]
        assert not [request for request in tab.requests if request.url.endswith("/title")]
        env.contexts[0].close()


def test_what_an_unseen_version_replaces_is_shown_once_it_is_loaded(env: PageEnvironment) -> None:
    """A page of the chat begins where it is known; with the answers in front of it, all is in its place."""
    with spool_for(env.spool.settings.log.redis_url, keep_messages=True) as asking:
        made = asking.enqueue(CHAT, "first")
        first = made.generation_id
        with env.spool.produce(CHAT, first) as out:
            out.text("1")
        for n in range(2, 35):
            replaces = {"replaces": first} if n == 34 else {}
            made = asking.enqueue(CHAT, f"question {n}", **replaces)  # type: ignore[arg-type]
            with env.spool.produce(CHAT, made.generation_id) as out:
                out.text(str(n))
    tab = env.open_device()
    expect_turns(tab, ("question 34", "34"))
    tab.page.get_by_role("button", name="Show earlier answers").press("Enter")
    expect_versions(tab, "2/2")
    button(tab, "Previous version").click()
    expect(tab.page.locator(".answer .text")).to_have_text([str(n) for n in range(1, 34)])
    assert tab.errors == []


def make_picture() -> str:
    """Return a small PNG as a data: URL."""
    rows = b"".join(b"\0" + bytes((15, 118, 110)) * 24 for _ in range(16))
    chunks = ((b"IHDR", struct.pack(">2I5B", 24, 16, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    raw = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return f"data:image/png;base64,{base64.b64encode(raw).decode()}"


def test_pictures_and_files_of_a_question(env: PageEnvironment) -> None:
    """A picture in the log is shown, a file is named, nothing is loaded from elsewhere; an edit keeps them."""
    picture = make_picture()
    content = [
        {"type": "text", "text": "<b>What</b> is this?"},
        {"type": "image_url", "image_url": {"url": picture}},
        {"type": "image_url", "image_url": {"url": "https://elsewhere.example/p.png"}},
        {"type": "image_url", "image_url": {"url": "data:image/svg+xml;base64,PHN2Zy8+"}},
        {"type": "file", "file": {"filename": "<i>plan</i>.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}},
    ]
    with spool_for(env.spool.settings.log.redis_url, keep_messages=True) as asking:
        made = asking.enqueue(CHAT, messages=[{"role": "user", "content": content}])
        with env.spool.produce(CHAT, made.generation_id) as out:
            out.text("A picture.")
    tab = env.open_device()
    question = tab.page.locator(".question")
    unseen = "A picture that is not shown here"
    expect(question.locator("p")).to_have_text(["<b>What</b> is this?", unseen, unseen, "File: <i>plan</i>.pdf"])
    expect(question.get_by_role("img", name="Picture of the question")).to_have_count(1)
    assert question.locator("img").evaluate("(image) => image.decode().then(() => image.naturalWidth)") == 24
    assert all("elsewhere" not in request.url for request in tab.requests)
    assert tab.errors == []
    button(tab, "Edit the question").click()
    tab.page.get_by_role("textbox", name="Edit the question").fill("And now?")
    tab.page.keyboard.press("Enter")
    with env.spool.produce(CHAT, env.wait_for_question()) as out:
        assert out.request.messages[-1]["content"] == [{"type": "text", "text": "And now?"}, *content[1:]]
    expect(question.locator("p")).to_have_text(["And now?", unseen, unseen, "File: <i>plan</i>.pdf"])


def test_an_edit_keeps_tool_outputs_and_says_what_the_server_refuses(env: PageEnvironment) -> None:
    """A turn of a tool's output and a question; a hook's own words reach the person who asks."""
    first = env.spool.enqueue(CHAT, "When?", keep_messages=True)
    with env.spool.produce(CHAT, first.generation_id) as out:
        out.tool_call("c1", "clock", "{}")
    turn = [
        {"role": "tool", "tool_call_id": "c1", "content": "noon"},
        {"role": "user", "content": "And?", "name": "ann"},
    ]
    second = env.spool.enqueue(CHAT, messages=turn, keep_messages=True)
    with env.spool.produce(CHAT, second.generation_id) as out:
        out.text("So.")
    tab = env.open_device()
    button(tab, "Edit the question").last.click()
    tab.page.route("**/generations", lambda route: route.fulfill(status=422, json=REFUSAL))
    tab.page.get_by_role("textbox", name="Edit the question").fill("Now?")
    tab.page.keyboard.press("Enter")
    expect(tab.page.locator(".editing .failed")).to_have_text("The server refused this: no questions about clocks")
    tab.page.unroute("**/generations")
    tab.page.keyboard.press("Enter")
    with env.spool.produce(CHAT, env.wait_for_question()) as out:
        assert out.request.messages[-2:] == (turn[0], {**turn[1], "content": "Now?"})
    expect(tab.page.locator(".asked").last).to_have_text("tool output: noonNow?")


def test_on_the_narrowest_screen_in_the_dark(env: PageEnvironment) -> None:
    """Long words, the switch, the form and the buttons fit in 320 pixels, and can be read."""
    context = env.browser.new_context(color_scheme="dark", viewport={"width": 320, "height": 640})
    env.contexts.append(context)
    tab = env.open_tab(context)
    converse(env, tab, ("x" * 200, "y" * 200))
    button(tab, "Regenerate the answer").click()
    reply(env, "z" * 200)
    expect_versions(tab, "2/2")
    button(tab, "Previous version").click()
    expect(tab.page.locator(".foot")).to_contain_text("the conversation goes on with version 2")
    button(tab, "Edit the question").click()
    tab.page.get_by_role("textbox", name="Edit the question").fill("w" * 200)
    assert tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for name in ("Cancel the edit", "Send the edited question", "Next version", "Regenerate the answer"):
        box = button(tab, name).bounding_box()
        assert box is not None
        assert box["height"] >= 24
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 320
    assert tab.errors == []
